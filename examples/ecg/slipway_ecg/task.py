"""The model ``ecg``: the class of a heartbeat from 187 samples."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from slipway.training import Column, Datatype, Signature
from slipway.training.metric import ACCURACY, LOG_LOSS, MACRO_F1
from slipway.training.target import Classes
from slipway.training.task import Estimator, Parameters, Task

from slipway_ecg.beat_shape import BeatShape
from slipway_ecg.mitbih import CLASSES, COLUMNS
from slipway_ecg.networks.classifier import SignalNetwork

LIMITS = (
    "Not a medical device. Not for decisions about patients.",
    "48 records of 47 patients, recorded from 1975 to 1979 in one laboratory and selected for "
    "their arrhythmias; the table is a sample, so its class shares are not those of patients.",
    "The input is one beat and the start of the next: the recall of supraventricular beats, which "
    "differ from normal ones by coming early, and of fusion beats is low. The recall of each class "
    "is below.",
)


class EcgParameters(Parameters):
    """Parameters. Classes have equal weight in all estimators, independent of their frequency.

    Leaves are large, because the beats of a record are similar.
    """

    folds: int = Field(default=5, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    estimator: Literal["forest", "boosting", "cnn"] = "forest"
    """extremely randomised trees, gradient boosting, or a small convolutional network"""

    trees: int = Field(default=100, ge=1, le=1000)
    """trees of the forest, or rounds of the boosting"""

    epochs: int = Field(default=20, ge=1, le=200)
    """epochs of the network"""

    width: int = Field(default=8, ge=1, le=64)
    """channels of the network's first convolution; the second has twice as many"""


def candidates(parameters: EcgParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator with each candidate leaf size."""
    if parameters.estimator == "cnn":
        network = SignalNetwork(parameters.epochs, parameters.width, random_state=parameters.seed)
        return {f"cnn epochs={parameters.epochs} width={parameters.width}": network}
    if parameters.estimator == "boosting":
        boosting = HistGradientBoostingClassifier(
            max_iter=parameters.trees, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=20,
            early_stopping=False,
            class_weight="balanced", random_state=parameters.seed,
        )  # fmt: skip
        return {f"boosting rounds={parameters.trees}": make_pipeline(BeatShape(), boosting)}
    return {
        f"forest trees={parameters.trees} leaf={leaf}": make_pipeline(
            BeatShape(),
            ExtraTreesClassifier(
                parameters.trees,
                min_samples_leaf=leaf,
                class_weight="balanced",
                n_jobs=-1,
                random_state=parameters.seed,
            ),
        )
        for leaf in (10, 20)
    }


TASK = Task(
    name="ecg",
    title="Class of a heartbeat",
    use=(
        "Shows how a signal is classified where subjects differ more than classes: the class N, "
        "S, V, F or Q of a beat, scored on held-out records."
    ),
    limits=LIMITS,
    datasets=("ecg-mitbih", "ecg-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(name="label", datatype=Datatype.INT64, description="the most probable class",
            codes=CLASSES),
            Column(
                name="probabilities", datatype=Datatype.FP32, shape=(len(CLASSES),), minimum=0,
                maximum=1,
                description="of N S V F Q, for equally frequent classes",
            ),
        ),
    ),
    target=Classes(len(CLASSES)),
    parameters=EcgParameters,
    estimators=candidates,
    metrics=(MACRO_F1, ACCURACY, LOG_LOSS),
    selection=MACRO_F1,  # accuracy and log-loss are dominated by N and V, four fifths of the beats
)  # fmt: skip
