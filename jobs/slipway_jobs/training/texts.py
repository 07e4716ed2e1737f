"""What can be counted in a text, so that its distribution can be compared: how long it is, and how
much of it is unknown.
"""

import re
from collections import Counter
from collections.abc import Collection

import numpy as np

from slipway_jobs.data.dataset import Features, Floats

COUNTS = ("length", "unknown words")
"""Characters; the share of the words that are none of the common ones, missing where there is no
word.
"""

KNOWN = 1000
"""Words that are known: so few, and so common, that they tell nothing of single texts. They make up
most of any text.
"""

_WORD = re.compile(r"\w+")


def common_words(texts: Features) -> tuple[str, ...]:
    """The commonest words of texts [rows, width], in lower case, the commonest first."""
    seen = Counter(word for text in texts.ravel() for word in _WORD.findall(text.lower()))
    return tuple(
        word for word, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:KNOWN]
    )


def described(texts: Features, known: Collection[str]) -> Floats:
    """COUNTS of each of texts [rows, width], side by side."""
    names = frozenset(known)
    counts = [(len(text), _share(_WORD.findall(text.lower()), names)) for text in texts.ravel()]
    return np.array(counts, dtype=np.float32).reshape(len(texts), -1)


def _share(words: list[str], known: frozenset[str]) -> float:
    return sum(word not in known for word in words) / len(words) if words else np.nan
