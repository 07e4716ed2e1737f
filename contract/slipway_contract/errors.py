"""What is wrong with an input, said once for every part."""

from pydantic import ValidationError


class InvalidInput(ValueError):
    """An inference input that does not fit; ``field`` names it as the caller wrote it.

    ``str()`` gives one line: the field, what is wrong, and what would be right.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class InvalidOutput(ValueError):
    """A model's output that its signature does not allow; ``str()`` is one line that names the
    output.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"output {name!r} {problem}")


class InfiniteOutput(ValueError):
    """Infinity in a model's answer, which JSON does not have: a number that the caller's input
    leads to.
    """

    def __init__(self, name: str, at: int, value: float) -> None:
        super().__init__(
            f"output {name!r}: value {at} is {value} for this input, and JSON has no infinity; "
            "leave the row out, or bound the output in the model"
        )


class MalformedRequest(ValueError):
    """A body that is not an inference request at all (no JSON, wrong structure)."""


class TooManyValues(ValueError):
    """A request with more values than one request may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the request has too many values: rows × columns may be {limit} in one request; "
            "send fewer rows, or all of them as a batch: POST /v1/models/{model}/batches"
        )


def explain_settings(error: ValidationError, prefix: str = "") -> str:
    """One line per finding of a pydantic-settings error: the environment variable, and what is
    wrong; never its value.
    """
    lines = []
    for finding in error.errors(include_url=False, include_input=False):
        name = str(finding["loc"][0]) if finding["loc"] else ""
        variable = name if name.isupper() else f"{prefix}{name}".upper()
        where = "".join(f".{part}" for part in finding["loc"][1:])
        lines.append(f"set {variable}{where}: {finding['msg']}\n")
    return "".join(lines)
