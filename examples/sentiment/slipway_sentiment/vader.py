"""Adapter of VADER: its rules as an estimator without fitting, and as serving runs them.

Hutto, C.J. and Gilbert, E.E., VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text, ICWSM 2014. The package has the MIT licence and includes its words: some 7,500
words and emoticons, and names of emoji. Its last release is of 2020.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from slipway.errors import NoSuchVersion
from slipway.training.dataset import Features, Labels
from slipway_contract.rules import NEUTRAL, RuleSet
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

Scores = NDArray[np.float64]


def vader() -> RuleSet:
    """Return the words of the package, for its rules."""
    own = SentimentIntensityAnalyzer()
    return RuleSet(
        rules="vader",
        version=metadata.version("vaderSentiment"),
        lexicon=own.lexicon,
        emoji=own.emojis,
    )


class Vader(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """The package's rules with its own words: compound scores [rows] of texts [rows, 1]."""

    def fit(self, x: Features, y: Labels) -> "Vader":  # noqa: ARG002  # there is nothing to fit
        return self

    def predict(self, x: Features) -> Scores:
        return _compound(SentimentIntensityAnalyzer(), x.ravel())


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package comes without types
    """The package's rules over given words, without the word list of the package."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.lexicon = rule_set.lexicon
        self.emojis = rule_set.emoji


def run_rules(content: bytes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the outputs of a ``model.rules`` file by name, as serving computes them.

    Raises NoSuchVersion for rules of another version.
    """
    rule_set = RuleSet.model_validate_json(content)
    known = ("vader", metadata.version("vaderSentiment"))
    if (rule_set.rules, rule_set.version) != known:
        raise NoSuchVersion(
            f"rules {rule_set.rules} {rule_set.version} are not supported; install "
            f"{' '.join(known)}"
        )
    (texts,) = feeds.values()
    compound = _compound(_Analyzer(rule_set), texts.ravel())
    return {"compound": compound.astype(np.float32), "label": labels(compound)}


def labels(compound: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the codes of ``SENTIMENTS`` [rows] for compound scores [rows]."""
    return 1 + (compound >= NEUTRAL).astype(np.int64) - (compound <= -NEUTRAL).astype(np.int64)


def _compound(analyzer: SentimentIntensityAnalyzer, texts: Sequence[str] | NDArray[Any]) -> Scores:
    return np.array(
        [analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64
    )
