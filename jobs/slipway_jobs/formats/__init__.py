"""Formats of served models: ONNX graphs, with export and inference, and rules."""
