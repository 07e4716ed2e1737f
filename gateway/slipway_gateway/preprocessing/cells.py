"""The size of a request: rows × columns."""

from slipway_contract.errors import TooManyValues
from slipway_contract.signature import Signature
from slipway_contract.v2 import element_count


def cells(signature: Signature, rows: int) -> int:
    """How many values so many rows have, those that are looked up included."""
    return rows * sum(element_count(column.shape) for column in signature.inputs)


def check_cells(signature: Signature, rows: int, limit: int) -> None:
    """Raise TooManyValues when so many rows have more than ``limit`` values."""
    if cells(signature, rows) > limit:
        raise TooManyValues(limit)
