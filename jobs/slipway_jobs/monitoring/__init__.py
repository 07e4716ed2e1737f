"""Drift of the inputs in production from the training inputs."""
