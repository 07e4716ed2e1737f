"""Synthetic sentences for demonstrations and tests where the rated texts are not available.

A sentence has a thing, a judgement and a degree; a rule derives its rating from the words, with
noise. A model that is trained on them learns that rule, not the meaning of real texts.
"""

import numpy as np
from slipway.training.dataset import Table

SEED = 2014
ROWS = 3000

_THINGS = (
    "the film", "the soup", "this phone", "our journey", "the concert", "her speech", "the hotel",
    "my bike", "the garden", "the lesson", "the delivery", "that game", "the coffee",
    "the battery", "their service", "the ending",
)  # fmt: skip
_JUDGEMENTS = {
    "great": 0.8, "lovely": 0.7, "good": 0.5, "nice": 0.45, "fun": 0.5, "wonderful": 0.8,
    "pleasant": 0.5, "brilliant": 0.75,
    "terrible": -0.7, "awful": -0.65, "bad": -0.6, "boring": -0.4, "sad": -0.5,
    "disappointing": -0.5, "horrible": -0.7,
    "annoying": -0.45, "long": 0.0, "short": 0.0, "blue": 0.0, "as planned": 0.0,
    "in the north": 0.0, "on Tuesday": 0.0,
}  # fmt: skip
_DEGREES = {
    "": 1.0,
    "very ": 1.25,
    "really ": 1.2,
    "a bit ": 0.6,
    "rather ": 0.8,
    "not ": -0.6,
    "never ": -0.5,
}
_ENDS = {".": 1.0, "!": 1.1, "": 1.0, " :)": 1.1, "...": 0.9}
_NOISE = 0.12


def synthetic_sentences(rows: int = ROWS, seed: int = SEED) -> Table:
    """Return up to ``rows`` distinct synthetic sentences with ratings from -1 to 1.

    Equal seeds return equal sentences.
    """
    random = np.random.default_rng(seed)
    parts = (_THINGS, tuple(_DEGREES), tuple(_JUDGEMENTS), tuple(_ENDS))
    rated: dict[str, float] = {}
    for chosen in zip(*(random.choice(part, rows) for part in parts), strict=True):
        thing, degree, judgement, end = map(str, chosen)
        rating = _JUDGEMENTS[judgement] * _DEGREES[degree] * _ENDS[end] + random.normal(0, _NOISE)
        rated.setdefault(
            f"{thing.capitalize()} was {degree}{judgement}{end}",
            round(float(np.clip(rating, -1, 1)), 3),
        )
    return Table.of(
        np.array(list(rated), dtype=object).reshape(-1, 1), np.array(list(rated.values()))
    )
