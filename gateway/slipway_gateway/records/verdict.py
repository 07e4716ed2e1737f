"""A label beside what was predicted: how many rows, and how many of them right."""

from typing import Any

import orjson


def verdict(response: str | None, label: Any) -> tuple[int, int] | tuple[None, None]:
    """Rows of the prediction and how many the label confirms; nothing where they cannot be compared.

    ``response`` is the logged V2 answer. The predicted label is the output named ``label``, else the first; numbers with a
    fraction are no labels. A label of several rows is a list, of one row a list or the value.
    """
    predicted = _predicted(response)
    if label is None or predicted is None:
        return None, None
    labels = label if isinstance(label, list) else [label]
    if len(labels) != len(predicted):
        return None, None
    return len(labels), sum(map(_same, labels, predicted))


def _same(one: Any, other: Any) -> bool:
    """0 is a label, and false another one."""
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _predicted(response: str | None) -> list[Any] | None:
    try:
        outputs = orjson.loads(response or "")["outputs"]
        output = next((each for each in outputs if each["name"] == "label"), outputs[0])
        rows, data = output["shape"][0], output["data"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return None
    if str(output.get("datatype", "FP")).startswith("FP") or not isinstance(data, list) or len(data) != rows:
        return None
    return data
