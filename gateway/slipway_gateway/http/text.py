"""JSON serialization of content from callers."""

from typing import Any

import orjson
from slipway_contract.errors import MalformedRequest


def dumps(content: Any, option: int = 0) -> bytes:
    """Serialize ``content``; an integer of more than 64 bits becomes a floating-point number.

    Most JSON parsers read such an integer the same way. Raises MalformedRequest when it exceeds
    the range of floating-point numbers.
    """
    try:
        return orjson.dumps(content, option=option)
    except orjson.JSONEncodeError:
        # orjson rejects such integers, and a check in advance takes longer than the serialization.
        return orjson.dumps(_within_64_bits(content), option=option)


def _within_64_bits(value: Any) -> Any:
    match value:
        case dict():
            return {key: _within_64_bits(each) for key, each in value.items()}
        case list():
            return [_within_64_bits(each) for each in value]
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return _float(value)
    return value


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise MalformedRequest(
            f"a whole number of {len(str(value))} digits is too large; 64 bits are supported"
        ) from None
