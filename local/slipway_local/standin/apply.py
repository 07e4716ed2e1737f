"""Server-side apply for one field manager.

Fields that this manager set before and does not set now are removed; fields of others stay. Lists
are replaced as a whole, where the API server would merge by key. Source:
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

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
