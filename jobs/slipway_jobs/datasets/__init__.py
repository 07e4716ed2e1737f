"""The declared datasets, their sources, and the store of their tables."""
