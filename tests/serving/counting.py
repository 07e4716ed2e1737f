"""Rules of the tests, as a package installs them: the balance of known words in a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from slipway_contract.rules import RuleSet
from slipway_contract.signature import Signature

VERSION = "1.0"


class Words(RuleSet):
    """Content of the file."""

    words: dict[str, float] = Field(min_length=1)


WORDS = Words(rules="counting", version=VERSION, words={"good": 1.0, "bad": -1.0})


class Counting:
    """Adds the values of all known words."""

    def __init__(self, words: Words) -> None:
        if words.version != VERSION:
            raise ValueError(f"the words are for counting {words.version}, not {VERSION}")
        self._words = words.words

    def check(self, signature: Signature) -> None:
        names = [column.name for column in signature.outputs]
        if names != ["compound", "label"]:
            raise ValueError(f"the rules return compound and label, not {', '.join(names)}")

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        (texts,) = inputs.values()
        sums = [sum(self._words.get(word, 0) for word in text.split()) for text in texts.ravel()]
        compound = np.clip(np.array(sums, dtype=np.float64), -1, 1)
        return {"compound": compound, "label": 1 + np.sign(compound).astype(np.int64)}


def load(content: bytes) -> Counting:
    return Counting(Words.model_validate_json(content))


def install(folder: Path, *entry_points: str, name: str = "counting") -> None:
    """Write what an installer writes of a distribution with these entry points."""
    distribution = folder / f"{name}-1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(entry_points)
    (distribution / "entry_points.txt").write_text(f"[slipway.rules]\n{lines}\n")
