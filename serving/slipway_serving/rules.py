"""Adapter of VADER: the rules are code of this server, the words are data of the artifact.

Hutto, C.J. and Gilbert, E.E., VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text, ICWSM 2014.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from slipway_contract.rules import NEUTRAL, RuleSet
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

from slipway_serving.errors import Refused, first_finding
from slipway_serving.predictor import Array

KNOWN = frozenset({("vader", "3.3.2")})
"""Supported rules, each with the release of its package; the lock file pins the same release."""

_OUTPUTS = {"compound": Datatype.FP32, "label": Datatype.INT64}


class Rules:
    """A rule set behind a model signature.

    The input is one text per row. The outputs are ``compound`` from -1 to 1 and the ``label``
    derived from it.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        """Load the rule set and compare it with the signature. Raises Refused."""
        rule_set = _read(path)
        if (rule_set.rules, rule_set.version) not in KNOWN:
            known = ", ".join(f"{name} {version}" for name, version in sorted(KNOWN))
            raise Refused(
                f"{path.name} is for the rules {rule_set.rules!r} {rule_set.version!r}; "
                f"this server supports {known}"
            )
        self._input = _input(path.name, signature)
        self._analyzer = _Analyzer(rule_set)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs [rows] for the texts [rows].

        The thresholds of ``label`` on ``compound`` are those that VADER's authors recommend.
        """
        texts = inputs[self._input].ravel()
        compound = np.array(
            [self._analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64
        )
        label = 1 + (compound >= NEUTRAL).astype(np.int64) - (compound <= -NEUTRAL).astype(np.int64)
        given: dict[str, Array] = {"compound": compound, "label": label}
        return {name: given[name] for name in outputs}


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package comes without types
    """The package's rules over the artifact's words, without the word list of the package."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.lexicon = rule_set.lexicon
        self.emojis = rule_set.emoji


def _read(path: Path) -> RuleSet:
    try:
        return RuleSet.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Refused(f"{path.name} is not a rule set: {first_finding(error)}") from error


def _input(file: str, signature: Signature) -> str:
    first, *others = signature.inputs
    if others or first.datatype is not Datatype.BYTES or first.shape:
        raise Refused(
            f"{file}: rules take one text per row; the signature has "
            f"{', '.join(c.name for c in signature.inputs)}"
        )
    for column in signature.outputs:
        if _OUTPUTS.get(column.name) is not column.datatype or column.shape:
            raise Refused(
                f"{file}: rules return compound (FP32) and label (INT64); the signature has "
                f"{column.name}"
            )
    return first.name
