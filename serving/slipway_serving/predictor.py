"""What a loaded model is, whatever its format."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


class Predictor(Protocol):
    """A loaded model that fits its signature."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Arrays by name in, the wanted outputs by name out; the first dimension of each is the
        rows.
        """
