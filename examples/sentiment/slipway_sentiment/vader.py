"""VADER's rules over the words of an artifact: the plugin by which predictors and Jobs run them.

Hutto, C.J. and Gilbert, E.E., VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text, ICWSM 2014. The package has the MIT licence and includes its words: some 7,500
words and emoticons, and names of emoji. Its last release is of 2020.

The entry point ``vader`` of ``slipway.rules`` is ``load``. The image of the predictors has no SDK:
of Slipway, this module imports only the contract.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from slipway_contract.rules import RuleSet
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

NEUTRAL = 0.05
"""Compound scores whose absolute value is below this are neutral; source: the authors of VADER."""

SENTIMENTS = {0: "negative", 1: "neutral", 2: "positive"}
"""Codes of the label of a compound score."""

_OUTPUTS = {"compound": Datatype.FP32, "label": Datatype.INT64}

Scores = NDArray[np.float64]


class Lexicon(RuleSet):
    """Content of a ``model.rules`` file: the words that the rules score."""

    model_config = ConfigDict(extra="forbid")

    lexicon: dict[str, float] = Field(
        min_length=1, description="words and emoticons in lower case: how pleasant, -4 to 4"
    )
    emoji: dict[str, str] = Field(
        default_factory=dict, description="single characters: the words that replace them"
    )


def vader() -> Lexicon:
    """Return the words of the package, for its rules."""
    own = SentimentIntensityAnalyzer()
    return Lexicon(
        rules="vader",
        version=metadata.version("vaderSentiment"),
        lexicon=own.lexicon,
        emoji=own.emojis,
    )


def load(content: bytes) -> "VaderRules":
    """Return the rules over the words of a ``model.rules`` file. Raises ValueError."""
    return VaderRules(Lexicon.model_validate_json(content))


class VaderRules:
    """The rules over given words.

    The input is one text per row. The outputs are ``compound`` from -1 to 1, and the ``label``
    derived from it by the thresholds that VADER's authors recommend.
    """

    def __init__(self, lexicon: Lexicon) -> None:
        installed = metadata.version("vaderSentiment")
        if lexicon.version != installed:
            raise ValueError(
                f"the words are for {lexicon.rules} {lexicon.version}, and {installed} is "
                f"installed; install vaderSentiment {lexicon.version}"
            )
        self._analyzer = _Analyzer(lexicon)

    def check(self, signature: Signature) -> None:
        """Raise ValueError for a signature that is not one text and the two outputs."""
        first, *others = signature.inputs
        if others or first.datatype is not Datatype.BYTES or first.shape:
            raise ValueError(
                "the rules take one text per row; the signature has "
                f"{', '.join(column.name for column in signature.inputs)}"
            )
        for column in signature.outputs:
            if _OUTPUTS.get(column.name) is not column.datatype or column.shape:
                raise ValueError(
                    "the rules return compound (FP32) and label (INT64); the signature has "
                    f"{column.name}"
                )

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return both outputs [rows] for texts [rows] or [rows, 1]."""
        (texts,) = inputs.values()
        compound = compound_scores(self._analyzer, texts.ravel())
        return {"compound": compound.astype(np.float32), "label": labels(compound)}


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package comes without types
    """The package's rules over given words, without the word list of the package."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon.lexicon
        self.emojis = lexicon.emoji


def labels(compound: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the codes of ``SENTIMENTS`` [rows] for compound scores [rows]."""
    return 1 + (compound >= NEUTRAL).astype(np.int64) - (compound <= -NEUTRAL).astype(np.int64)


def compound_scores(analyzer: Any, texts: Sequence[str] | NDArray[Any]) -> Scores:
    """Return the compound scores [rows] of texts [rows]."""
    return np.array(
        [analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64
    )
