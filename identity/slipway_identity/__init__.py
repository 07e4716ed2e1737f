"""The bundled identity provider: Canaille's own program serves it, this package prepares it."""
