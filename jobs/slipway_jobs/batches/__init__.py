"""Predictions of a whole file."""
