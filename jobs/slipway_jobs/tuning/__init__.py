"""Sweeps: hyperparameters tried by cross-validation, by any number of processes."""
