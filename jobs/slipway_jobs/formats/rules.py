"""The door to VADER: rules over words, as an estimator that learns nothing, and as serving runs
them.

Hutto, C.J. and Gilbert, E.E., VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text, ICWSM 2014. The package comes under the MIT licence, with its words: some 7,500
words and emoticons, and names of emoji. Its last release is of 2020.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from slipway_contract.rules import NEUTRAL, RuleSet
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

from slipway_jobs.data.dataset import Features, Labels
from slipway_jobs.errors import NoSuchVersion

Scores = NDArray[np.float64]


def vader() -> RuleSet:
    """The words that the package carries, for its rules."""
    own = SentimentIntensityAnalyzer()
    return RuleSet(
        rules="vader",
        version=metadata.version("vaderSentiment"),
        lexicon=own.lexicon,
        emoji=own.emojis,
    )


class Vader(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """The package as it is: compound scores of texts [rows, 1]."""

    def fit(self, x: Features, y: Labels) -> "Vader":  # noqa: ARG002  # nothing is learnt
        return self

    def predict(self, x: Features) -> Scores:
        return _compound(SentimentIntensityAnalyzer(), x.ravel())


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package comes without types
    """The package's rules over given words; its own constructor reads those that it carries."""

    def __init__(self, said: RuleSet) -> None:
        self.lexicon = said.lexicon
        self.emojis = said.emoji


def run_rules(content: bytes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The outputs of a ``model.rules`` file by name, as serving computes them. Raises
    NoSuchVersion.
    """
    said, known = (
        RuleSet.model_validate_json(content),
        ("vader", metadata.version("vaderSentiment")),
    )
    if (said.rules, said.version) != known:
        raise NoSuchVersion(
            f"rules {said.rules} {said.version} are not known here; there are {' '.join(known)}"
        )
    (texts,) = feeds.values()
    compound = _compound(_Analyzer(said), texts.ravel())
    return {"compound": compound.astype(np.float32), "label": labels(compound)}


def labels(compound: NDArray[np.floating]) -> NDArray[np.int64]:
    """Codes of ``SENTIMENTS`` for compound scores."""
    return 1 + (compound >= NEUTRAL).astype(np.int64) - (compound <= -NEUTRAL).astype(np.int64)


def _compound(analyzer: SentimentIntensityAnalyzer, texts: Sequence[str] | NDArray[Any]) -> Scores:
    return np.array(
        [analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64
    )
