"""The distribution of training rows with columns of all types."""

import numpy as np
from slipway.packaging.frames import frame_rows, infer_inputs
from slipway.packaging.reference import Kind, Reference, reference_of_rows, watched
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from tests.sdk.churn import customers


def reference() -> tuple[Signature, Reference]:
    table, _ = customers()
    inputs = infer_inputs({"reference": table})
    signature = Signature(inputs=inputs, outputs=(Column(name="y", datatype=Datatype.FP32),))
    return signature, reference_of_rows(signature, frame_rows(table, inputs))


def test_each_column_has_the_distribution_of_its_type() -> None:
    _, found = reference()
    columns = {column.name: column for column in found.columns}
    assert [name for name, column in columns.items() if column.kind is Kind.CODES] == [
        "active", "plan",
    ]  # fmt: skip
    assert columns["plan"].values == (0, 1)
    assert columns["monthly fee"].missing == 58
    assert columns["city length"].missing == 80
    assert set(columns["city length"].values) == {4, 5}
    assert "service" in found.words


def test_rows_of_requests_have_the_same_monitored_values() -> None:
    signature, found = reference()
    table, _ = customers(5)
    seen = watched(signature, frame_rows(table, signature.inputs), found.words)
    assert seen.shape == (5, len(found.columns))
    names = [column.name for column in found.columns]
    assert np.isnan(seen[0, names.index("monthly fee")])
    assert set(seen[:, names.index("plan")]) <= {0, 1}
    assert np.isnan(seen[0, names.index("channel unknown words")])
