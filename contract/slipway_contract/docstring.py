"""Docstrings as texts for users: descriptions of JSON Schemas and generated pages."""


def one_line(docstring: str | None) -> str:
    """Return a docstring without its line breaks and indentation; empty for None."""
    return " ".join((docstring or "").split())
