"""The size of a request in values: rows × columns."""

from slipway_contract.errors import TooManyValues
from slipway_contract.signature import Signature
from slipway_contract.v2 import element_count


def cells(signature: Signature, rows: int) -> int:
    """Return the number of values in ``rows`` rows, including looked-up ones."""
    return rows * sum(element_count(column.shape) for column in signature.inputs)


def check_cells(signature: Signature, rows: int, limit: int) -> None:
    """Raise TooManyValues when ``rows`` rows have more than ``limit`` values."""
    if cells(signature, rows) > limit:
        raise TooManyValues(limit)
