"""Rule-based models of text: their data, which is an artifact; their code is part of the server."""

from pydantic import BaseModel, ConfigDict, Field

NEUTRAL = 0.05
"""Compound scores whose absolute value is below this are neutral; source: the authors of VADER."""

SENTIMENTS = {0: "negative", 1: "neutral", 2: "positive"}
"""Codes of the label of a compound score."""


class RuleSet(BaseModel):
    """Content of a ``model.rules`` file: the lexicon, and the name of the code that uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rules: str = Field(description="the rules, by name: vader")
    version: str = Field(
        description=(
            "version of the package that has the rules; others may score the same words differently"
        )
    )
    lexicon: dict[str, float] = Field(
        min_length=1, description="words and emoticons in lower case: how pleasant, -4 to 4"
    )
    emoji: dict[str, str] = Field(
        default_factory=dict, description="single characters: the words that replace them"
    )
