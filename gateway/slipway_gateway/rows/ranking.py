"""The likeliest classes of a classifier's answer."""

from collections.abc import Sequence
from typing import Any

from slipway_contract.signature import Column, Signature


def probabilities(signature: Signature) -> Column | None:
    """The output with a probability of each class: the vector of numbers between 0 and 1."""
    for column in signature.outputs:
        if column.datatype.is_float and len(column.shape) == 1 and (column.minimum, column.maximum) == (0, 1):
            return column
    return None


def add_top(rows: Sequence[dict[str, Any]], signature: Signature, count: int) -> None:
    """Give each row its ``count`` likeliest classes as ``top``, the likeliest first; named where the label's codes name them.

    The signature must have probabilities.
    """
    column = probabilities(signature)
    assert column is not None  # noqa: S101
    names = next((each.codes for each in signature.outputs if each.datatype.is_integer and each.codes), {})
    for row in rows:
        given: list[float] = row[column.name]
        best = sorted(range(len(given)), key=given.__getitem__, reverse=True)[:count]
        row["top"] = [
            {"label": index, "probability": given[index], **({"name": names[index]} if index in names else {})} for index in best
        ]
