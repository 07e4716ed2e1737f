"""What is wrong with an input, said once for every part."""


class InvalidInput(ValueError):
    """An inference input that does not fit; ``field`` names it as the caller wrote it.

    ``str()`` gives one line: the field, what is wrong, and what would be right.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class MalformedRequest(ValueError):
    """A body that is not an inference request at all (no JSON, wrong structure)."""
