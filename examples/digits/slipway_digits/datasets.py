"""The datasets of digits."""

import numpy as np
from slipway.training import Column, Datatype
from slipway.training.dataset import Dataset, Table


def _digits() -> Table:
    from sklearn.datasets import load_digits  # takes a second to import; only digits needs it

    digits = load_digits()
    return Table.of(digits.data.astype(np.float32), digits.target)


DIGITS = Dataset(
    name="digits",
    title="Handwritten digits, 8×8 pixels of 0..16: 1,797 images",
    source="https://archive.ics.uci.edu/dataset/80 (test part), from scikit-learn",
    licence="CC BY 4.0",
    citation="Alpaydin E, Kaynak C. Optical Recognition of Handwritten Digits. UCI Machine "
    "Learning Repository, 1998. "
    "doi:10.24432/C50P49",
    subject="image",
    digest="sha256:4c993bafe074d5caa2ddf74c7019231d32e6a8a4b2a7677f695a05376f82dba7",
    columns=(Column(name="pixels", datatype=Datatype.FP32, shape=(64,), minimum=0, maximum=16),),
    make=_digits,
)
