"""The model card of an external model: its origin, and which facts are not recorded."""

from slipway.packaging.model import PackagedModel
from slipway.packaging.parity import Parity
from slipway_contract.signature import Column

from slipway_jobs.imports.origin import Origin

_UNKNOWN = "not recorded"


def card(
    name: str, use: str | None, origin: Origin, model: PackagedModel, parity: Parity | None
) -> str:
    """Return the model card as Markdown."""
    proof = parity.sentence() if parity else "not verified, because no expected outputs were given"
    lines = [
        f"# {name}",
        *("", use or "The intended use is not recorded."),
        *("", "## Limits", "- External model: its training and its scores are not recorded."),
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
    shape = f" {list(column.shape)} per row" if column.shape else ""
    image = f", an image of {column.image.width} x {column.image.height}" if column.image else ""
    description = f": {column.description}" if column.description else ""
    return f"- {column.name}: {column.datatype}{shape}{image}{description}"
