"""The package of a model version: ONNX export, parity, reference, digest."""
