"""The bundled identity provider: Canaille with the additions and restrictions of Slipway."""
