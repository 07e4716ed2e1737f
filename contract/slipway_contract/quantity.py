"""Quantities of Kubernetes: ``500m`` of a CPU, ``1.5Gi`` of memory.

The API server rewrites a quantity into its canonical form. An object with another form of the same
quantity would differ from the stored one in each comparison.
Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,3})?(m|[kMGTP]|[KMGTP]i)?$"
_DECIMAL = {"m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_LIMIT = 10**18
"""The API server stores at most 2^63 - 1, and the next suffix would be E."""
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}


def amount(quantity: str) -> Decimal:
    """Return the number that a quantity stands for: 0.5 for ``500m``, 1536 for ``1.5Ki``.

    Raises ValueError.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    if not re.match(_PATTERN, quantity) or not found:
        raise ValueError(
            f"{quantity!r:.40} is not a quantity; write a number with m, k, M, G, T, P, Ki, Mi, "
            "Gi, Ti, Pi or no suffix, such as 500m or 1.5Gi"
        )
    number, suffix = Decimal(found[1]), found[2]
    if suffix in _BINARY:
        return number * (1 << _BINARY[suffix])
    return number.scaleb(_DECIMAL[suffix])


def canonical(quantity: str) -> str:
    """Return the form that the API server stores. Raises ValueError.

    The number is whole and the suffix as large as possible: ``1`` for ``1000m``, ``1536Mi`` for
    ``1.5Gi``.
    """
    value = amount(quantity)
    if value >= _LIMIT:
        raise ValueError(f"{quantity!r} is too large; write a quantity below 1000P")
    thousandths = value * 1000
    if thousandths != int(thousandths):
        raise ValueError(f"{quantity!r} is finer than a thousandth; write a coarser quantity")
    if quantity.endswith("i") and value >= 1024 and value == int(value):
        return _with_suffix(int(value), 1024, ["", *_BINARY])
    return _with_suffix(int(thousandths), 1000, [*_DECIMAL])


def _with_suffix(number: int, base: int, suffixes: list[str]) -> str:
    if not number:
        return "0"
    index = 0
    while number % base == 0 and index + 1 < len(suffixes):
        number, index = number // base, index + 1
    return f"{number}{suffixes[index]}"


def _validated(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r:.40} is not a quantity; write a whole number or a text")  # noqa: TRY004 - pydantic reports ValueError
    return canonical(str(value))


Quantity = Annotated[
    str,
    BeforeValidator(_validated),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _PATTERN}),
]
"""A quantity in its canonical form. A whole number is accepted, as in Kubernetes."""
