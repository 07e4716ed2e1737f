"""Sweeps: parameters tried by cross-validation, by any number of processes."""
