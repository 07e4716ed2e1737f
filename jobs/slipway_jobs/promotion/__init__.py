"""How good a registered version is, and whether it goes live."""
