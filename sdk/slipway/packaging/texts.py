"""Counts of a text whose distribution can be compared: length, share of unknown words."""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Features = NDArray[Any]
"""[rows, width]: FP32 with NaN for missing values, or texts."""

COUNTS = ("length", "unknown words")
"""Length in characters; share of words outside the common ones, missing where there is no word."""

KNOWN = 1000
"""Number of common words.

They are so few and so frequent that they reveal nothing of single texts, and make up most of any
text.
"""

_WORD = re.compile(r"\w+")


def common_words(texts: Features) -> tuple[str, ...]:
    """Return the most frequent words of texts [rows, width], lower case, in falling frequency."""
    seen = Counter(word for text in texts.ravel() for word in _WORD.findall(text.lower()))
    return tuple(
        word for word, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:KNOWN]
    )


def described(texts: Features, known: Collection[str]) -> Floats:
    """Return the COUNTS of each of the texts [rows, width] as [rows, width × counts] FP32."""
    names = frozenset(known)
    counts = [(len(text), _share(_WORD.findall(text.lower()), names)) for text in texts.ravel()]
    return np.array(counts, dtype=np.float32).reshape(len(texts), -1)


def _share(words: list[str], known: frozenset[str]) -> float:
    return sum(word not in known for word in words) / len(words) if words else np.nan
