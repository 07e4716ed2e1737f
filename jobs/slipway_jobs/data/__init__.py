"""The tables that models learn from and predict: how each is read, or drawn from a seed."""
