"""One module per model; each declares its ``TASK``."""
