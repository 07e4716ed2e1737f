"""A label beside what was predicted: validated by the version's output, and how many rows it
confirms.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column
from slipway_contract.v2 import TensorMetadata, check_values, element_count
from slipway_contract.values import plain_values, text_value

FIELD = "label"


class Label(NamedTuple):
    """A label in the datatype of the output. Where it can be compared: rows of the prediction, and
    how many it confirms.
    """

    label: Any
    rows: int | None = None
    correct: int | None = None


def judge(outputs: Sequence[Column], response: str | None, label: Any) -> Label:
    """Validate and normalize a label of one row, or a list of one for each row, and compare it with
    the prediction.

    ``outputs`` is what the version's signature gives, empty when it is not known; ``response`` is
    the logged V2 answer. A label is of the output named ``label``, else of the first. Texts and
    booleans become the output's numbers: ``"1"`` and ``true`` are 1. Numbers with a fraction are
    not compared; labels of vectors are stored as they are.

    Raises InvalidInput.
    """
    if label is None:
        return Label(None)
    tensors = _tensors(response)
    columns = outputs or [column for column in map(_column, tensors) if column]
    column = _labelled(columns)
    if column is None or element_count(column.shape) != 1:
        return Label(label)
    given = label if isinstance(label, list) else [label]
    labels = _values(column, given)
    found = next((tensor for tensor in tensors if tensor.get("name") == column.name), None)
    rows = _rows(found or (tensors[0] if tensors else {}))
    if rows is not None and len(labels) != rows:
        raise InvalidInput(
            FIELD,
            (
                f"has {len(labels)} values; the prediction has {rows} rows: send a list with one "
                "for each"
            ),
        )
    correct = _confirmed(column, found, labels)
    normalized = labels if isinstance(label, list) else labels[0]
    return Label(normalized) if correct is None else Label(normalized, len(labels), correct)


def _labelled(columns: Sequence[Column]) -> Column | None:
    return next(
        (column for column in columns if column.name == FIELD), columns[0] if columns else None
    )


def _values(column: Column, given: list[Any]) -> list[Any]:
    """The labels in the datatype of the output. Raises InvalidInput."""
    if column.datatype.bounds is not None:
        given = [int(value) if isinstance(value, bool) else value for value in given]
    values = [_of_text(column, value) if isinstance(value, str) else value for value in given]
    labels = list(plain_values(FIELD, column.datatype, values))
    if column.datatype.is_float and column.codes is None:
        check_values(
            FIELD, column.datatype, labels
        )  # the truth may lie beyond what the model can predict
    else:
        column.model_copy(update={"name": FIELD, "max_length": None}).check_values(labels)
    return labels


def _of_text(column: Column, text: str) -> Any:
    try:
        return text_value(FIELD, column.datatype, text)
    except InvalidInput as error:
        codes = ", ".join(f"{code} ({meaning})" for code, meaning in (column.codes or {}).items())
        raise InvalidInput(
            FIELD, f"{error.problem}; send one of {codes[:500]}" if codes else error.problem
        ) from None


def _confirmed(column: Column, tensor: dict[str, Any] | None, labels: list[Any]) -> int | None:
    if tensor is None or column.datatype.is_float:
        return None
    predicted = tensor.get("data")
    if not isinstance(predicted, list) or len(predicted) != len(labels):
        return None
    return sum(bool(one == other) for one, other in zip(labels, predicted, strict=True))


def _rows(tensor: dict[str, Any]) -> int | None:
    shape = tensor.get("shape")
    return shape[0] if isinstance(shape, list) and shape and isinstance(shape[0], int) else None


def _tensors(response: str | None) -> list[dict[str, Any]]:
    """Outputs of the answer; none when it is not there or not V2."""
    try:
        outputs = orjson.loads(response or "")["outputs"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return []
    return [each for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []


def _column(tensor: dict[str, Any]) -> Column | None:
    """The column of an answered tensor, for a version whose signature is not known."""
    try:
        found = TensorMetadata(
            name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
        )
        column = Column.of_metadata(found)
    except (ValidationError, KeyError):
        return None
    return column if tensor["shape"] else None
