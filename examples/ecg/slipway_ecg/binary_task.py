"""The model ``ecg-binary``: normal or abnormal heartbeat from 187 samples."""

from dataclasses import replace

import numpy as np
from slipway.training import Column, Datatype, Signature
from slipway.training.dataset import Labels
from slipway.training.metric import ACCURACY, AUC, BRIER, MACRO_F1
from slipway.training.target import Classes

from slipway_ecg import task as ecg
from slipway_ecg.mitbih import COLUMNS


def abnormal(labels: Labels) -> Labels:
    """Return 1 for each class but N [rows] INT64."""
    return (labels > 0).astype(np.int64)


TASK = replace(
    ecg.TASK,
    name="ecg-binary",
    title="Normal or abnormal heartbeat",
    use=(
        "Shows a second model on the data of another: 1 is any beat but a normal one, scored on "
        "held-out records."
    ),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(name="label", datatype=Datatype.INT64, description="1 = abnormal",
            codes={0: "normal", 1: "abnormal"}),
            Column(
                name="probability", datatype=Datatype.FP32, minimum=0, maximum=1,
                description="of an abnormal beat, for equally frequent classes",
            ),
        ),
    ),
    target=Classes(2),
    relabel=abnormal,
    metrics=(AUC, MACRO_F1, ACCURACY, BRIER),
    selection=AUC,
)  # fmt: skip
