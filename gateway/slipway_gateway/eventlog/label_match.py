"""Label match: validation of labels by a version's output, and comparison with predictions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column
from slipway_contract.v2 import TensorMetadata, check_values, element_count
from slipway_contract.values import plain_values, text_value

FIELD = "label"
SHORT_VALUES = 5
SHORT_TEXT = 100


class Label(NamedTuple):
    """A label in the datatype of the output.

    ``rows`` is the number of rows of the prediction and ``correct`` the number of rows that equal
    the label; both are None when the two are not comparable.
    """

    label: Any
    rows: int | None = None
    correct: int | None = None


def judge(outputs: Sequence[Column], response: str | None, label: Any) -> Label:
    """Validate and normalize a label and compare it with the prediction.

    ``label`` is one value or a list with one value per row. ``outputs`` are the output columns of
    the version's signature, empty when unknown; ``response`` is the logged V2 response. The label
    belongs to the output named ``label`` or else to the first one. Strings and booleans become the
    output's numbers: ``"1"`` and ``true`` are 1. Floating-point outputs are not compared; labels of
    vectors are stored unchanged.

    Raises InvalidInput.
    """
    if label is None:
        return Label(None)
    predicted = tensors(response)
    columns = outputs or [column for column in map(_column, predicted) if column]
    column = _labelled(columns)
    if column is None or element_count(column.shape) != 1:
        return Label(label)
    given = label if isinstance(label, list) else [label]
    labels = _values(column, given)
    found = next((tensor for tensor in predicted if tensor.get("name") == column.name), None)
    rows = _rows(found or (predicted[0] if predicted else {}))
    if rows is not None and len(labels) != rows:
        raise InvalidInput(
            FIELD,
            f"has {len(labels)} values; the prediction has {rows} rows: send a list with one "
            "for each",
        )
    correct = _confirmed(column, found, labels)
    normalized = labels if isinstance(label, list) else labels[0]
    return Label(normalized) if correct is None else Label(normalized, len(labels), correct)


def short_prediction(response: str | None) -> Any:
    """Return the values that a label of the prediction refers to, shortened for a list.

    It is one value for one number, otherwise a list of at most ``SHORT_VALUES``; None for a
    response without outputs.
    """
    predicted = tensors(response)
    if not predicted:
        return None
    found = next((each for each in predicted if each.get("name") == FIELD), predicted[0])
    return short(found.get("data"))


def short(value: Any) -> Any:
    """Return the first values of a list, or its only one; texts and nested values are cut."""
    if isinstance(value, list):
        values = [_cut(each) for each in value[:SHORT_VALUES]]
        return values[0] if len(value) == 1 else values
    return _cut(value)


def _cut(value: Any) -> Any:
    if isinstance(value, list | dict):
        try:
            value = orjson.dumps(value).decode()
        except orjson.JSONEncodeError:  # it is nested too deeply
            return None
    return value[:SHORT_TEXT] if isinstance(value, str) else value


def _labelled(columns: Sequence[Column]) -> Column | None:
    return next(
        (column for column in columns if column.name == FIELD), columns[0] if columns else None
    )


def _values(column: Column, given: list[Any]) -> list[Any]:
    """Return the labels in the datatype of the output. Raises InvalidInput."""
    if column.datatype.bounds is not None:
        given = [int(value) if isinstance(value, bool) else value for value in given]
    values = [_of_text(column, value) if isinstance(value, str) else value for value in given]
    labels = list(plain_values(FIELD, column.datatype, values))
    if column.datatype.is_float and column.codes is None:
        # A true value may lie outside the bounds of the model's predictions.
        check_values(FIELD, column.datatype, labels)
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


def tensors(response: str | None) -> list[dict[str, Any]]:
    """Return the outputs of a V2 response; an empty list for any other text."""
    try:
        outputs = orjson.loads(response or "")["outputs"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return []
    return [each for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []


def _column(tensor: dict[str, Any]) -> Column | None:
    """Return the column of a response tensor, for a version with an unknown signature."""
    try:
        found = TensorMetadata(
            name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
        )
        column = Column.of_metadata(found)
    except (ValidationError, KeyError):
        return None
    return column if tensor["shape"] else None
