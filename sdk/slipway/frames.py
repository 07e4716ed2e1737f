"""Rows of a data frame for a request, and predictions as a data frame.

pandas is used only with a caller's frame: it is no dependency of the client.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

from slipway.errors import WrongParameter
from slipway.responses import PredictionAnswer


def is_frame(rows: object) -> bool:
    """Return whether the rows are a frame of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def records(rows: Any, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """Return the rows at these positions as objects by column; a missing value is None.

    Raises WrongParameter for infinity, which JSON cannot represent.
    """
    if is_frame(rows):
        plain = rows.iloc[start:stop].astype(object)  # pandas 2 slices floats by label
        found: list[dict[str, Any]] = plain.where(plain.notna(), None).to_dict("records")
    else:
        found = list(rows[start:stop])
    for number, row in enumerate(found, start):
        for name, value in row.items():
            if _is_infinite(value):
                raise WrongParameter(
                    f"{name}: row {number} has infinity, which JSON cannot represent; send a number"
                )
    return found


def _is_infinite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_infinite, value))
    if hasattr(value, "tolist"):
        return _is_infinite(value.tolist())
    return isinstance(value, float) and math.isinf(value)


def predictions(answers: Sequence[PredictionAnswer]) -> Any:
    """Return the predictions as a frame, in the order of the rows.

    The index ``requestId`` has the ID of the request of each row.
    """
    import pandas as pd

    ids = [each.request_id for each in answers for _ in each.predictions]
    rows = [row for each in answers for row in each.predictions]
    return pd.DataFrame(rows, index=pd.Index(ids, name="requestId"))


def plain(value: Any) -> Any:
    """Return a value of numpy or pandas as JSON has it; a hook of msgspec."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent")
