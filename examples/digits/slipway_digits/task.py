"""The model ``digits``: handwritten digits from 8×8 pixels."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from slipway.training import Column, Datatype, ImageSpec, Signature
from slipway.training.metric import ACCURACY, LOG_LOSS, MACRO_F1
from slipway.training.space import Choice, Range
from slipway.training.target import Classes
from slipway.training.task import Estimator, Parameters, Task


class DigitsParameters(Parameters):
    """Parameters: the forest is slightly better, the logistic regression small and fast."""

    folds: int = Field(default=5, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    estimator: Annotated[Literal["logistic", "forest"], Choice()] = "logistic"
    """logistic regression, or a random forest"""

    C: Annotated[float | None, Range(0.03, 30.0, log=True)] = Field(default=None, gt=0, le=1e4)
    """inverse strength of the L2 penalty of the logistic regression; by default cross-validated"""

    trees: Annotated[int, Range(50, 300)] = Field(default=100, ge=1, le=2000)
    """trees of the forest"""


def candidates(parameters: DigitsParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator with each candidate strength."""
    if parameters.estimator == "forest":
        return {
            f"forest trees={parameters.trees}": RandomForestClassifier(
                parameters.trees, random_state=parameters.seed
            )
        }
    strengths = [parameters.C] if parameters.C is not None else [0.3, 1.0, 3.0]
    return {
        f"logistic C={c:g}": make_pipeline(MinMaxScaler(), LogisticRegression(C=c, max_iter=2000))
        for c in strengths
    }


TASK = Task(
    name="digits",
    title="Handwritten digits",
    use="Shows how an image model is trained and served: which digit an 8×8 image shows.",
    limits=(
        "The data does not name the writers, so the split is not by writer: scores are lower for "
        "writers that are not in the training data.",
        "Pixels are counts 0..16 of 4×4 blocks of a 32×32 bitmap; the model is not valid for "
        "images with other pixels.",
        "It returns a digit for any image, also for one without a digit.",
    ),
    datasets=("digits",),
    signature=Signature(
        inputs=(
            Column(
                name="pixels", datatype=Datatype.FP32, shape=(64,), minimum=0, maximum=16,
                description="8×8 pixels, row by row from the top left; 0 = paper, 16 = ink",
                image=ImageSpec(width=8, height=8, mode="L", fit="contain", black=0, white=16,
                ground="black", trim=True),
            ),
        ),
        outputs=(
            Column(name="label", datatype=Datatype.INT64, description="the most probable digit",
            minimum=0, maximum=9),
            Column(
                name="probabilities", datatype=Datatype.FP32, shape=(10,), minimum=0, maximum=1,
                description="of the digits 0 to 9",
            ),
        ),
    ),
    target=Classes(10),
    parameters=DigitsParameters,
    estimators=candidates,
    metrics=(ACCURACY, MACRO_F1, LOG_LOSS),
    selection=LOG_LOSS,
)  # fmt: skip
