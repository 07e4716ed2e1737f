"""Models that were made elsewhere: an ONNX file, or a scikit-learn estimator in skops."""
