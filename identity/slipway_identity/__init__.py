"""The bundled identity provider: Canaille, what Slipway needs in it, and what it must not do."""
