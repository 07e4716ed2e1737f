"""Conversion of values: JSON, CSV and Parquet give the same value, or an error with the remedy."""

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pydantic_core import from_json

from slipway_contract.errors import InvalidInput
from slipway_contract.v2 import Datatype, short

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_OTHER_NUMBER = re.compile(r"[+-]?[0-9][0-9 '_,.]*")
"""A number in the format of another locale or program: ``1,5``, ``1.000,5``, ``1_000``."""
_NO_VALUE = frozenset(["na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "."])
"""Texts that programs write for a missing value, in lower case."""
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_TYPES: dict[Datatype, set[type]] = {Datatype.BOOL: {bool}, Datatype.BYTES: {str}}


def plain_values(field: str, datatype: Datatype, values: Sequence[Any]) -> Sequence[Any]:
    """Return values of JSON or Parquet in the type of the datatype, where the conversion is exact.

    A whole number with a decimal point and a decimal become the datatype's number, 0 and 1 become a
    BOOL, UTF-8 becomes text; other values are unchanged. Raises InvalidInput for bytes that are not
    UTF-8.
    """
    allowed = _TYPES.get(datatype) or ({int, float} if datatype.is_float else {int})
    if set(map(type, values)) <= {*allowed, type(None)}:
        return values
    return [_plain(field, datatype, value) for value in values]


def _plain(field: str, datatype: Datatype, value: Any) -> Any:
    if datatype is Datatype.BYTES and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise InvalidInput(field, f"{short(value)} is not text in UTF-8") from None
    if datatype is Datatype.BOOL and type(value) is int and value in (0, 1):
        return bool(value)
    if (
        not isinstance(value, float | Decimal)
        or datatype.bounds is None
        or not math.isfinite(value)
    ):
        return value
    if datatype.is_integer and value == int(value):
        return int(value)
    return float(value)


def text_value(field: str, datatype: Datatype, text: str, *, missing: bool = False) -> Any:
    """Return the value that a text, such as a field of CSV, represents: None for an empty one.

    A value of BYTES is returned unchanged. ``missing`` is True when the value may be missing; the
    remedy depends on it. Raises InvalidInput.
    """
    if datatype is Datatype.BYTES:
        return text
    written = text.strip()
    if not written:
        return None
    if datatype is Datatype.BOOL and (found := _BOOLEANS.get(written.lower())) is not None:
        return found
    if datatype.bounds is not None and _NUMBER.fullmatch(written):
        number = int(written) if _WHOLE.fullmatch(written) else float(written)
        return plain_values(field, datatype, [number])[0]
    raise InvalidInput(
        field, f"{short(text)} is not {datatype}{_remedy(datatype, written, missing=missing)}"
    )


def _remedy(datatype: Datatype, text: str, *, missing: bool) -> str:
    if text.lower() in _NO_VALUE:
        return (
            "; leave the field empty where the value is missing"
            if missing
            else "; this value cannot be missing"
        )
    if datatype is Datatype.BOOL:
        return "; write true or false"
    if _OTHER_NUMBER.fullmatch(text):
        return "; write a point before decimals, and nothing between thousands"
    return ""


def list_value(field: str, datatype: Datatype, text: str) -> Any:
    """Return the list that a JSON text represents; it may be nested. Raises InvalidInput."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        raise InvalidInput(
            field, f"{short(text)} is not a JSON list of {datatype}; write it as [1, 2, 3]"
        ) from None


def without_nan(values: Iterable[Any]) -> list[Any]:
    """Return the values, nested lists included, with None in place of NaN.

    Parquet has both for a missing value.
    """
    return [_without_nan(value) for value in values]


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and value != value else value
