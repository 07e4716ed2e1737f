"""The network as a scikit-learn classifier with an ONNX export."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from slipway.training.dataset import Floats
from threadpoolctl import threadpool_limits

from slipway_ecg.beat_shape import GraphBuilder
from slipway_ecg.networks.adam import Adam
from slipway_ecg.networks.convolution import Array
from slipway_ecg.networks.network import Network

BATCH = 64
"""Rows of one training step."""
_CHUNK = 512
"""Rows that are predicted at a time; their windows take some 30 MB."""
_CHANNELS = 2


class SignalNetwork(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of signals [rows, samples] FP32, padded with zeros.

    Classes have equal weight, independent of their frequency. The same rows, parameters and seed
    result in a bit-identical network: training uses one thread and one order of the rows.
    """

    def __init__(self, epochs: int = 20, width: int = 8, random_state: int = 0) -> None:
        self.epochs = epochs
        self.width = width
        self.random_state = random_state

    def fit(self, x: Floats, y: NDArray[np.int64]) -> Self:
        self.n_features_in_ = x.shape[1]
        self.classes_, labels = np.unique(y, return_inverse=True)
        signals = _channels(x)
        weights = compute_sample_weight("balanced", labels).astype(np.float32)
        random = np.random.default_rng(self.random_state)
        network = Network.random(random, _CHANNELS, self.width, len(self.classes_))
        batches = -(-len(x) // BATCH)
        adam = Adam(steps=self.epochs * batches)
        with threadpool_limits(1):
            for _ in range(self.epochs):
                for rows in np.array_split(random.permutation(len(x)), batches):
                    _, gradients = network.gradients(signals[rows], labels[rows], weights[rows])
                    network = Network(adam.step(network.parameters, gradients))
        self.network_ = network
        return self

    def predict_proba(self, x: Floats) -> Array:
        """Return probabilities [rows, classes] in the order of ``classes_``."""
        with threadpool_limits(1):
            parts = [
                self.network_.probabilities(_channels(x[start : start + _CHUNK]))
                for start in range(0, len(x), _CHUNK)
            ]
        return np.concatenate(parts)

    def predict(self, x: Floats) -> NDArray[np.int64]:
        return np.asarray(self.classes_[self.predict_proba(x).argmax(axis=1)])

    def to_onnx(self, builder: GraphBuilder, x: str) -> str:
        """Add the computation of ``predict_proba`` to an ONNX graph; return its output's name."""
        there = builder("Cast", builder("Greater", x, np.asarray(0, dtype=np.float32)), to=1)
        time = builder("Mul", there, _clock(self.n_features_in_))
        one_channel = np.asarray([0, 1, -1], dtype=np.int64)  # 0 keeps the number of rows
        both = builder(
            "Concat",
            builder("Reshape", x, one_channel),
            builder("Reshape", time, one_channel),
            axis=1,
        )
        return self.network_.to_onnx(builder, both, _CHANNELS)


def _channels(x: Floats) -> Array:
    """Return [rows, samples, 2] FP32: the signal, and the time of each sample that is not padding.

    Without the time channel, a network with a maximum over time has no positions, and an early beat
    is recognized by the position of the next one. Source: Liu et al. (2018), "CoordConv".
    """
    signal = np.asarray(x, dtype=np.float32)
    return np.stack([signal, (signal > 0) * _clock(x.shape[1])], axis=2)


def _clock(samples: int) -> Any:
    return np.linspace(0, 1, samples, dtype=np.float32)
