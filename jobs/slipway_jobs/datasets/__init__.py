"""Which datasets there are, how each is had, and where its table is kept."""
