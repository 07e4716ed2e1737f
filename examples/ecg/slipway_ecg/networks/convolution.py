"""A layer of convolution, max pooling and ReLU, with its gradient and its ONNX export.

Arrays are [rows, samples, channels], so that a window is contiguous and a convolution is one matrix
product (im2col: Chellapilla, Puri and Simard 2006). In ONNX they are [rows, channels, samples].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from slipway_ecg.beat_shape import GraphBuilder

Array = NDArray[Any]

POOL = 3
"""Size of the max pooling."""


@dataclass(frozen=True)
class ForwardState:
    """The intermediate results of ``forward`` that ``backward`` needs."""

    shape: tuple[int, ...]
    """Shape of the input."""
    windows: Array
    winner: NDArray[np.int8]
    """Position of the maximum in its pool; of equal ones the first."""
    active: NDArray[np.bool_]
    """Where ReLU is positive."""


@dataclass(frozen=True)
class Convolution:
    """Weights [size × channels, outputs] and bias [outputs] over windows of ``size`` samples.

    The input is not padded.
    """

    weights: Array
    bias: Array

    def forward(self, x: Array) -> tuple[Array, ForwardState]:
        """Return [rows, (samples - size + 1) // POOL, outputs] and the intermediate results.

        ``x`` is [rows, samples, channels].
        """
        size = len(self.weights) // x.shape[2]
        windows = sliding_window_view(x, size, axis=1).transpose(0, 1, 3, 2)
        pooled = windows.shape[1] // POOL
        flat = windows[:, : pooled * POOL].reshape(-1, len(self.weights))
        parts = (flat @ self.weights).reshape(len(x), pooled, POOL, -1)
        largest, winner = parts[:, :, 0], np.zeros((len(x), pooled, parts.shape[3]), dtype=np.int8)
        for position in range(1, POOL):
            larger = parts[:, :, position] > largest
            largest, winner = (
                np.where(larger, parts[:, :, position], largest),
                np.where(larger, np.int8(position), winner),
            )
        given = np.maximum(largest + self.bias, 0)
        return given, ForwardState(x.shape, flat, winner, given > 0)

    def backward(self, gradient: Array, state: ForwardState) -> tuple[list[Array], Array]:
        """Return the gradients of weights and bias, and of each product of a window.

        ``gradient`` is that of the outputs, with their shape.
        """
        gradient = gradient * state.active
        spread = np.stack(
            [gradient * (state.winner == position) for position in range(POOL)], axis=2
        )
        spread = spread.reshape(-1, gradient.shape[2])
        return [state.windows.T @ spread, gradient.sum((0, 1))], spread

    def by_input(self, spread: Array, state: ForwardState) -> Array:
        """Return the gradient of the inputs [rows, samples, channels], for the layer before."""
        rows, _, channels = state.shape
        by_window = (spread @ self.weights.T).reshape(
            rows, -1, len(self.weights) // channels, channels
        )
        found = np.zeros(state.shape, dtype=spread.dtype)
        for position in range(by_window.shape[2]):
            found[:, position : position + by_window.shape[1]] += by_window[:, :, position]
        return found

    def to_onnx(self, builder: GraphBuilder, x: str, channels: int) -> str:
        """Add the computation of ``forward`` to an ONNX graph and return its output's name."""
        kernel = self.weights.reshape(-1, channels, len(self.bias)).transpose(2, 1, 0)
        convolved = builder(
            "Conv", x, np.ascontiguousarray(kernel), self.bias, kernel_shape=[kernel.shape[2]]
        )
        return builder("Relu", builder("MaxPool", convolved, kernel_shape=[POOL], strides=[POOL]))
