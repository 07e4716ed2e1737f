"""Slipway as local processes, without Docker: for the first steps and for fast tests."""
