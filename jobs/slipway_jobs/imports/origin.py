"""Where a model that was made elsewhere came from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where the model came from, as its provenance says it."""

    file: str
    sha256: str
    by: str
    at: str
    """ISO 8601, UTC."""
    url: str | None
    dataset: str | None
    licence: str | None
    source: str | None
