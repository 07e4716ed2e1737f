"""Server-side apply, as the stand-in does it for one field manager."""

from copy import deepcopy
from typing import Any


def merge(before: dict[str, Any], now: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """Return the live object after this manager, which had set ``before``, applied ``now``."""
    result = dict(live)
    for key in before.keys() - now.keys():
        _remove_own(key, before[key], result)
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            former = before.get(key)
            result[key] = merge(former if isinstance(former, dict) else {}, value, live[key])
        else:
            result[key] = deepcopy(value)
    return result


def _remove_own(key: str, former: Any, result: dict[str, Any]) -> None:
    """Remove a field of this manager, but not the fields of others in it."""
    if isinstance(former, dict) and isinstance(result.get(key), dict):
        rest = merge(former, {}, result[key])
        if rest:
            result[key] = rest
            return
    result.pop(key, None)
