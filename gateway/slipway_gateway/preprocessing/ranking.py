"""The most probable classes in a classifier's response."""

from collections.abc import Mapping, Sequence
from typing import Any

from slipway_contract.signature import Column, Signature


def ranked(signature: Signature) -> Column | None:
    """Return the output with a number per class: a vector with named classes, else one of 0..1."""
    vectors = [
        column
        for column in signature.outputs
        if column.datatype.is_float and len(column.shape) == 1
    ]
    named = [column for column in vectors if column.classes]
    return next(iter([*named, *filter(_is_probability, vectors)]), None)


def add_top(rows: Sequence[dict[str, Any]], signature: Signature, count: int) -> None:
    """Add the ``count`` most probable classes to each row as ``top``, in descending order.

    A class has a name where the signature has one. The signature must have a ranked output. Its
    numbers are probabilities when their bounds are 0 and 1, else scores.
    """
    column = ranked(signature)
    assert column is not None  # noqa: S101
    names, kind = _names(column, signature), "probability" if _is_probability(column) else "score"
    for row in rows:
        given: list[float] = row[column.name]
        best = sorted(range(len(given)), key=given.__getitem__, reverse=True)[:count]
        row["top"] = [
            {"label": index, kind: given[index]}
            | ({"name": names[index]} if index in names else {})
            for index in best
        ]


def _is_probability(column: Column) -> bool:
    return (column.minimum, column.maximum) == (0, 1)


def _names(column: Column, signature: Signature) -> Mapping[int, str]:
    if column.classes:
        return dict(enumerate(column.classes))
    return next(
        (each.codes for each in signature.outputs if each.datatype.is_integer and each.codes), {}
    )
