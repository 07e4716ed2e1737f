"""Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slipway_ecg.networks.convolution import Array

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8


@dataclass
class Adam:
    """The optimizer; its learning rate falls linearly from ``rate`` to 0 over ``steps``."""

    steps: int
    rate: float = 0.01
    decay: float = 0.1
    """Weight decay per step, multiplied by the rate."""
    _taken: int = 0
    _means: list[Array] = field(default_factory=list)
    _squares: list[Array] = field(default_factory=list)

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        """Return the parameters after one more step."""
        if not self._means:
            self._means = [np.zeros_like(each) for each in parameters]
            self._squares = [np.zeros_like(each) for each in parameters]
        rate = self.rate * (1 - self._taken / self.steps)
        self._taken += 1
        self._means = [
            _MEAN * old + (1 - _MEAN) * new for old, new in zip(self._means, gradients, strict=True)
        ]
        self._squares = [
            _SQUARE * old + (1 - _SQUARE) * new**2
            for old, new in zip(self._squares, gradients, strict=True)
        ]
        mean_share, square_share = 1 - _MEAN**self._taken, 1 - _SQUARE**self._taken
        return [
            each * (1 - rate * self.decay)
            - rate * (mean / mean_share) / (np.sqrt(square / square_share) + _TINY)
            for each, mean, square in zip(parameters, self._means, self._squares, strict=True)
        ]
