"""One layer over a signal: convolution, the largest of neighbours, ReLU; with its gradient, and as
ONNX.

Arrays are [rows, samples, channels], so that a window lies in one piece and a convolution is one
product of matrices (im2col: Chellapilla, Puri and Simard 2006). In ONNX they are [rows, channels,
samples].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from slipway_jobs.data.beat_shape import GraphBuilder

Array = NDArray[Any]

POOL = 3
"""Neighbouring positions of which the largest is kept."""


@dataclass(frozen=True)
class Passed:
    """Of one way forward: what the way back needs."""

    shape: tuple[int, ...]
    """Of the input."""
    windows: Array
    place: NDArray[np.int8]
    """Which of the neighbours was the largest; of equal ones the first."""
    open: NDArray[np.bool_]
    """Where ReLU let through."""


@dataclass(frozen=True)
class Convolution:
    """Weights [size × channels, outputs] and bias [outputs], over windows of ``size`` samples;
    nothing is padded.
    """

    weights: Array
    bias: Array

    def forward(self, x: Array) -> tuple[Array, Passed]:
        """[rows, samples, channels] to [rows, (samples - size + 1) // POOL, outputs]."""
        size = len(self.weights) // x.shape[2]
        windows = sliding_window_view(x, size, axis=1).transpose(0, 1, 3, 2)
        pooled = windows.shape[1] // POOL
        flat = windows[:, : pooled * POOL].reshape(-1, len(self.weights))
        parts = (flat @ self.weights).reshape(len(x), pooled, POOL, -1)
        largest, place = parts[:, :, 0], np.zeros((len(x), pooled, parts.shape[3]), dtype=np.int8)
        for position in range(1, POOL):
            larger = parts[:, :, position] > largest
            largest, place = (
                np.where(larger, parts[:, :, position], largest),
                np.where(larger, np.int8(position), place),
            )
        given = np.maximum(largest + self.bias, 0)
        return given, Passed(x.shape, flat, place, given > 0)

    def backward(self, slope: Array, passed: Passed) -> tuple[list[Array], Array]:
        """From the slopes of the loss by the outputs: those by weights and bias, and those by each
        product of a window.
        """
        slope = slope * passed.open
        spread = np.stack([slope * (passed.place == position) for position in range(POOL)], axis=2)
        spread = spread.reshape(-1, slope.shape[2])
        return [passed.windows.T @ spread, slope.sum((0, 1))], spread

    def by_input(self, spread: Array, passed: Passed) -> Array:
        """The slopes by the inputs; the first layer has no use for them."""
        rows, _, channels = passed.shape
        by_window = (spread @ self.weights.T).reshape(
            rows, -1, len(self.weights) // channels, channels
        )
        found = np.zeros(passed.shape, dtype=spread.dtype)
        for position in range(by_window.shape[2]):
            found[:, position : position + by_window.shape[1]] += by_window[:, :, position]
        return found

    def draw(self, builder: GraphBuilder, x: str, channels: int) -> str:
        """The same as ``forward``, as ONNX."""
        kernel = self.weights.reshape(-1, channels, len(self.bias)).transpose(2, 1, 0)
        convolved = builder(
            "Conv", x, np.ascontiguousarray(kernel), self.bias, kernel_shape=[kernel.shape[2]]
        )
        return builder("Relu", builder("MaxPool", convolved, kernel_shape=[POOL], strides=[POOL]))
