"""Splits by sets of categories as chains of comparisons, for the ONNX export of histogram trees.

ONNX trees compare numbers. The codes of a set are a few ranges, so a split by a set is a comparison
with the end of each range; the nodes of the chain share the two subtrees.
"""

from copy import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CODES = 256
"""Number of codes in a set of categories of scikit-learn, and bits in each of its words."""


def with_comparisons(boosting: Any) -> Any:
    """Return the boosting with comparisons in place of its splits by categories."""
    if getattr(boosting, "_is_categorical_remapped", None) is None:
        return boosting
    other = copy(boosting)
    known, places = boosting._bin_mapper.make_known_categories_bitsets()
    counts = {feature: _bits(known[place]).sum() for feature, place in enumerate(places)}
    other._predictors = [
        [SimpleNamespace(nodes=_compared(tree, counts)) for tree in trees]
        for trees in boosting._predictors
    ]
    return other


def _compared(tree: Any, counts: dict[int, int]) -> NDArray[Any]:
    nodes = [node.copy() for node in tree.nodes]
    for index in range(len(tree.nodes)):
        if nodes[index]["is_categorical"] and not nodes[index]["is_leaf"]:
            split = nodes[index]
            left = _bits(tree.raw_left_cat_bitsets[split["bitset_idx"]])
            _replace(nodes, index, left[: counts[int(split["feature_idx"])]])
    return np.array(nodes, dtype=tree.nodes.dtype)


def _bits(words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)[:_CODES]


def _replace(nodes: list[Any], index: int, left: NDArray[np.bool_]) -> None:
    """Replace a split of which the codes with ``left`` go to the left.

    The first comparison is true for missing values alone. Of each comparison the true branch may be
    shared, and the false one is the next comparison, or the last range's subtree.
    """
    split = nodes[index].copy()
    ends = np.flatnonzero(np.diff(left)) + 0.5
    sides = [*(split["left"] if left[int(end)] else split["right"] for end in ends)]
    missing = split["left"] if split["missing_go_to_left"] else split["right"]
    rest = split["left"] if left[-1] else split["right"]
    chain = [
        (-1.0, missing, True),
        *((end, side, False) for end, side in zip(ends, sides, strict=True)),
    ]
    at = index
    for step, (end, side, takes_missing) in enumerate(chain):
        last = step == len(chain) - 1
        nodes[at] = split.copy()
        nodes[at]["is_categorical"] = False
        nodes[at]["num_threshold"] = end
        nodes[at]["left"] = side
        nodes[at]["right"] = rest if last else len(nodes)
        nodes[at]["missing_go_to_left"] = takes_missing
        if not last:
            at = len(nodes)
            nodes.append(split.copy())
