"""External models: an ONNX file, or a scikit-learn estimator in skops format."""
