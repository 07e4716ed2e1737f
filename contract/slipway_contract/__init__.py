"""The words that all parts of Slipway share: types and pure functions, no input or output."""
