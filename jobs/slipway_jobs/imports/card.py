"""The model card of a model that was made elsewhere: what is known, and that the rest is not."""

from slipway_contract.signature import Column

from slipway_jobs.imports.model import ImportedModel
from slipway_jobs.imports.origin import Origin
from slipway_jobs.imports.parity import Parity

_UNKNOWN = "not recorded"


def card(
    name: str, use: str | None, origin: Origin, model: ImportedModel, parity: Parity | None
) -> str:
    """Markdown."""
    proof = (
        parity.sentence()
        if parity
        else "no expected outputs were given, so what it says was compared with nothing"
    )
    lines = [
        f"# {name}",
        *("", use or "What it is for is not recorded."),
        *(
            "",
            "## Limits",
            "- Made elsewhere: how it was trained and how good it is was not seen here.",
        ),
        *(
            "",
            "## Origin",
            f"- File: {origin.file}, sha256:{origin.sha256}",
            f"- From: {origin.url or 'a file'}",
        ),
        *(f"- Imported by {origin.by} at {origin.at}", f"- Source: {origin.source or _UNKNOWN}"),
        *(
            f"- Licence: {origin.licence or _UNKNOWN}",
            f"- Trained on: {origin.dataset or _UNKNOWN}",
        ),
        *("", "## Model", f"- {model.origin}", f"- Parity: {proof}."),
        *("", "## Inputs", *map(_line, model.signature.inputs)),
        *("", "## Outputs", *map(_line, model.signature.outputs), ""),
    ]
    return "\n".join(lines)


def _line(column: Column) -> str:
    shape = f" {list(column.shape)} a row" if column.shape else ""
    image = f", an image of {column.image.width} x {column.image.height}" if column.image else ""
    description = f": {column.description}" if column.description else ""
    return f"- {column.name}: {column.datatype}{shape}{image}{description}"
