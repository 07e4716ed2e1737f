"""Errors of inputs and outputs that all parts share."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a client of the gateway imports this module, and not pydantic
    from pydantic import ValidationError


class InvalidInput(ValueError):
    """An invalid inference input; ``field`` is its name as the caller wrote it.

    ``str()`` is one line: the field, the problem, and the expected value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class InvalidOutput(ValueError):
    """A model output that its signature does not allow; ``str()`` is one line with its name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"output {name!r} {problem}")


class InfiniteOutput(ValueError):
    """Infinity in a model's output, which JSON cannot represent; the input leads to it."""

    def __init__(self, name: str, at: int, value: float) -> None:
        super().__init__(
            f"output {name!r}: value {at} is {value} for this input, and JSON has no infinity; "
            "leave the row out, or bound the output in the model"
        )


class MalformedRequest(ValueError):
    """A body that is not an inference request: no JSON, or another structure."""


class TooManyValues(ValueError):
    """A request with more values than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the request has too many values: rows × columns may be {limit} in one request; "
            "send fewer rows, or all of them as a batch: POST /v1/models/{model}/batches"
        )


def explain_settings(error: "ValidationError", prefix: str = "") -> str:
    """Return one line for each finding of a pydantic-settings error: the variable and the problem.

    The value is never part of the line.
    """
    lines = []
    for finding in error.errors(include_url=False, include_input=False):
        name = str(finding["loc"][0]) if finding["loc"] else ""
        variable = name if name.isupper() else f"{prefix}{name}".upper()
        where = "".join(f".{part}" for part in finding["loc"][1:])
        lines.append(f"set {variable}{where}: {finding['msg']}\n")
    return "".join(lines)
