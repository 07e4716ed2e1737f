"""The door to VADER: rules that are code of this server, over words that are data of the artifact.

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
"""Rules and the release of their package; the lock pins the same one."""

_OUTPUTS = {"compound": Datatype.FP32, "label": Datatype.INT64}


class Rules:
    """A rule set behind a signature: one text in; ``compound`` of -1 to 1, and the ``label`` that
    goes with it, out.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        """Load and compare with the signature; raises Refused."""
        said = _read(path)
        if (said.rules, said.version) not in KNOWN:
            known = ", ".join(f"{name} {version}" for name, version in sorted(KNOWN))
            raise Refused(
                f"{path.name} is for the rules {said.rules!r} {said.version!r}; this server "
                f"knows {known}"
            )
        self._input = _input(path.name, signature)
        self._analyzer = _Analyzer(said)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Texts [rows] in, the wanted outputs [rows] out."""
        texts = inputs[self._input].ravel()
        compound = np.array(
            [self._analyzer.polarity_scores(text)["compound"] for text in texts], dtype=np.float64
        )
        label = 1 + (compound >= NEUTRAL).astype(np.int64) - (compound <= -NEUTRAL).astype(np.int64)
        given: dict[str, Array] = {"compound": compound, "label": label}
        return {name: given[name] for name in outputs}


class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the package comes without types
    """The package's rules over the artifact's words; its own constructor reads those that it
    carries.
    """

    def __init__(self, said: RuleSet) -> None:
        self.lexicon = said.lexicon
        self.emojis = said.emoji


def _read(path: Path) -> RuleSet:
    try:
        return RuleSet.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Refused(f"{path.name} is not a rule set: {first_finding(error)}") from error


def _input(file: str, signature: Signature) -> str:
    first, *others = signature.inputs
    if others or first.datatype is not Datatype.BYTES or first.shape:
        raise Refused(
            f"{file}: rules take one text a row; the signature says "
            f"{', '.join(c.name for c in signature.inputs)}"
        )
    for column in signature.outputs:
        if _OUTPUTS.get(column.name) is not column.datatype or column.shape:
            raise Refused(
                f"{file}: rules give compound (FP32) and label (INT64); the signature says "
                f"{column.name}"
            )
    return first.name
