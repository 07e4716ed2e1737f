"""The interface of a loaded model, independent of its format."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Predictor(Protocol):
    """A loaded model that matches its signature."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs, [rows, ...], for the inputs [rows, ...] by name."""
