"""Types and pure functions that all parts of Slipway share; no input or output."""
