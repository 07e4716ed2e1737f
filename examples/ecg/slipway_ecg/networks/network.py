"""Two convolutions, the maximum of each channel over time, and a linear layer of scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slipway_ecg.beat_shape import GraphBuilder
from slipway_ecg.networks.convolution import Array, Convolution

SIZES = (9, 7)
"""Samples of a window of each convolution."""


@dataclass(frozen=True)
class Network:
    """A network; ``parameters`` are weights and bias of each convolution and the linear layer."""

    parameters: Sequence[Array]

    @classmethod
    def random(
        cls, generator: np.random.Generator, channels: int, width: int, classes: int
    ) -> Self:
        """Return a network with random weights.

        The first convolution has ``width`` outputs, the second twice as many. Initialization of He,
        Zhang, Ren and Sun (2015): a layer's outputs vary as much as its inputs.
        """
        shapes = [(SIZES[0] * channels, width), (SIZES[1] * width, 2 * width), (2 * width, classes)]
        parameters: list[Array] = []
        for shape in shapes:
            weights = generator.standard_normal(shape) * np.sqrt(2 / shape[0])
            parameters += [weights.astype(np.float32), np.zeros(shape[1], dtype=np.float32)]
        return cls(parameters)

    @property
    def _layers(self) -> tuple[Convolution, Convolution]:
        return Convolution(*self.parameters[:2]), Convolution(*self.parameters[2:4])

    def probabilities(self, x: Array) -> Array:
        """Return [rows, classes] for ``x`` [rows, samples, channels]."""
        for layer in self._layers:
            x, _ = layer.forward(x)
        return _softmax(x.max(axis=1) @ self.parameters[4] + self.parameters[5])

    def gradients(
        self, x: Array, labels: NDArray[np.int64], weights: Array
    ) -> tuple[float, list[Array]]:
        """Return the mean cross-entropy, weighted by ``weights`` [rows], and its gradients.

        There is a gradient for each of the parameters, with its shape.
        """
        first, second = self._layers
        middle, first_state = first.forward(x)
        late, second_state = second.forward(middle)
        position = late.argmax(axis=1)[:, None]
        largest = np.take_along_axis(late, position, 1)[:, 0]
        probabilities = _softmax(largest @ self.parameters[4] + self.parameters[5])
        rows = np.arange(len(x))
        loss = -float((weights * np.log(probabilities[rows, labels])).mean())
        by_score = probabilities
        by_score[rows, labels] -= 1
        by_score *= weights[:, None] / len(x)
        by_late = np.zeros_like(late)
        np.put_along_axis(by_late, position, (by_score @ self.parameters[4].T)[:, None], 1)
        of_second, spread = second.backward(by_late, second_state)
        of_first, _ = first.backward(second.by_input(spread, second_state), first_state)
        return loss, [*of_first, *of_second, largest.T @ by_score, by_score.sum(0)]

    def to_onnx(self, builder: GraphBuilder, x: str, channels: int) -> str:
        """Add the computation of ``probabilities`` to an ONNX graph; return its output's name."""
        for layer in self._layers:
            x, channels = layer.to_onnx(builder, x, channels), len(layer.bias)
        largest = builder("Flatten", builder("GlobalMaxPool", x), axis=1)
        return builder("Softmax", builder("Gemm", largest, *self.parameters[4:]), axis=1)


def _softmax(scores: Array) -> Array:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
