"""The training pipeline, and the files that it stores with a version."""
