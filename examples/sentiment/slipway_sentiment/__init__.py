"""Example of Slipway: the sentiment of a text, by rules first and then by learned words."""
