"""The files that a model is served as: ONNX graphs, how they are drawn and run; and rules."""
