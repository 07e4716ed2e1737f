"""A model of fixed rules over words: what of it is data, and may therefore be an artifact."""

from pydantic import BaseModel, ConfigDict, Field

NEUTRAL = 0.05
"""A compound score that is smaller than this, either way, is neutral: the threshold that VADER's
authors give.
"""

SENTIMENTS = {0: "negative", 1: "neutral", 2: "positive"}
"""Codes of the label that goes with a compound score."""


class RuleSet(BaseModel):
    """Contents of a ``model.rules`` file: the words, and the name of the code that they are for; no
    code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rules: str = Field(description="the rules, by name: vader")
    version: str = Field(
        description=(
            "of the package that holds the rules: another may say something else of the same words"
        )
    )
    lexicon: dict[str, float] = Field(
        min_length=1, description="words and emoticons in lower case: how pleasant, -4 to 4"
    )
    emoji: dict[str, str] = Field(
        default_factory=dict, description="single characters: the words that stand for them"
    )
