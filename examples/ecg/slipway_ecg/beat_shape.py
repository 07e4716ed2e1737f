"""Features of a heartbeat relative to the next one, with the same FP32 results in NumPy and ONNX.

A row comes from a person that the model has not seen, and the next beat, mostly a normal one, is
the only information about that person's normal beats. So the features compare the beat with it: its
delay, and the difference of the complexes.
"""

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from slipway.training.dataset import Floats

EARLY = 60
"""Samples of the beat itself: complex, ST segment, T wave."""
REFRACTORY = 40
"""Samples in which no next complex starts: 320 ms."""
BEFORE, AFTER = 35, 16
"""Samples of the next beat around its peak."""
_SLOPE, _AROUND = 5, 7
WIDTH = 2 * EARLY + 9 + BEFORE + 2 * AFTER


class GraphBuilder(Protocol):
    """Adds a node to a graph: ``builder("Add", "x", array)`` returns the name of its output."""

    def __call__(self, kind: str, *inputs: str | NDArray[Any], **attributes: Any) -> str: ...


class BeatShape(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Transforms beats [rows, 187] FP32 to features [rows, WIDTH] FP32, without fitting.

    It uses differences, comparisons and one division only, no sums of many numbers: their FP32
    results are equal in NumPy and ONNX Runtime, so a tree's threshold splits them equally.
    """

    width = WIDTH

    def fit(self, x: Floats, y: Any = None) -> Self:  # noqa: ARG002  # as scikit-learn calls it
        self.n_features_in_ = x.shape[1]
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, x: Floats) -> Floats:
        """Return the features [rows, WIDTH], computed by NumPy as ``to_onnx`` does."""
        beat = np.asarray(x, dtype=np.float32)
        there = (beat > 0).astype(np.float32)
        length = there.sum(axis=1, keepdims=True)
        steps = (beat[:, 1:] - beat[:, :-1]) * there[:, 1:]
        steep = np.abs(steps)
        onset = steep[:, REFRACTORY:].argmax(axis=1)[:, None] + REFRACTORY
        near = _inside(onset + np.arange(-_SLOPE, _AROUND), beat)
        peak = np.take_along_axis(
            near, np.take_along_axis(beat, near, 1).argmax(axis=1)[:, None], 1
        )
        following = np.take_along_axis(beat, _inside(peak + np.arange(-BEFORE, AFTER), beat), 1)
        height, late = following[:, BEFORE : BEFORE + 1], peak.astype(np.float32)
        return np.concatenate(
            [
                beat[:, :EARLY], steps[:, :EARLY], length, late, late / np.maximum(length,
                np.float32(1)), height,
                beat[:, :1] - height, steep[:, :REFRACTORY].max(1, keepdims=True), steep[:,
                REFRACTORY:].max(1, keepdims=True),
                beat.max(1, keepdims=True), beat.argmax(1)[:, None].astype(np.float32),
                following, beat[:, :AFTER] - following[:, BEFORE:],
            ],
            axis=1,
        )  # fmt: skip

    def to_onnx(self, builder: GraphBuilder, x: str) -> str:
        """Add the computation of ``transform`` to an ONNX graph and return its output's name."""
        there = builder("Cast", builder("Greater", x, _fp32(0)), to=1)
        length = builder("ReduceSum", there, _int64([1]))
        steps = builder(
            "Mul",
            builder("Sub", _part(builder, x, 1, None), _part(builder, x, 0, -1)),
            _part(builder, there, 1, None),
        )
        steep = builder("Abs", steps)
        later = _part(builder, steep, REFRACTORY, None)
        onset = builder("Add", builder("ArgMax", later, axis=1, keepdims=1), _int64(REFRACTORY))
        near = _within(
            builder,
            builder("Add", onset, _int64(np.arange(-_SLOPE, _AROUND)[None])),
            self.n_features_in_,
        )
        highest = builder("ArgMax", builder("GatherElements", x, near, axis=1), axis=1, keepdims=1)
        peak = builder("GatherElements", near, highest, axis=1)
        around = _within(
            builder,
            builder("Add", peak, _int64(np.arange(-BEFORE, AFTER)[None])),
            self.n_features_in_,
        )
        following = builder("GatherElements", x, around, axis=1)
        height, late = _part(builder, following, BEFORE, BEFORE + 1), builder("Cast", peak, to=1)
        early, complex_ = _part(builder, x, 0, EARLY), _part(builder, following, BEFORE, None)
        return builder(
            "Concat", early, _part(builder, steps, 0, EARLY), length, late, builder("Div", late,
            builder("Max", length, _fp32(1))), height,
            builder("Sub", _part(builder, x, 0, 1), height), _highest(builder, _part(builder,
            steep, 0, REFRACTORY)), _highest(builder, later),
            _highest(builder, x), builder("Cast", builder("ArgMax", x, axis=1, keepdims=1), to=1),
            following, builder("Sub", _part(builder, x, 0, AFTER), complex_), axis=1,
        )  # fmt: skip


def _inside(positions: NDArray[np.integer], beat: Floats) -> NDArray[np.integer]:
    return np.asarray(np.clip(positions, 0, beat.shape[1] - 1))


def _within(builder: GraphBuilder, positions: str, width: int) -> str:
    return builder("Min", builder("Max", positions, _int64(0)), _int64(width - 1))


def _part(builder: GraphBuilder, x: str, start: int, end: int | None) -> str:
    return builder(
        "Slice",
        x,
        _int64([start]),
        _int64([np.iinfo(np.int64).max if end is None else end]),
        _int64([1]),
    )


def _highest(builder: GraphBuilder, x: str) -> str:
    """Return the largest value of each row [rows, 1], by its position, which any opset supports."""
    return builder("GatherElements", x, builder("ArgMax", x, axis=1, keepdims=1), axis=1)


def _int64(value: Any) -> NDArray[np.int64]:
    return np.asarray(value, dtype=np.int64)


def _fp32(value: float) -> NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32)
