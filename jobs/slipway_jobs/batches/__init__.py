"""Batch predictions of whole files."""
