"""Heart disease from 13 clinical inputs."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.cleveland import COLUMNS
from slipway_jobs.metric import ACCURACY, AUC, BRIER, LOG_LOSS
from slipway_jobs.problem import Estimator, Parameters, Problem
from slipway_jobs.space import Choice, Range
from slipway_jobs.target import Classes

# Codes without an order; the others are numbers, counts, or yes and no.
_NOMINAL = [index for index, column in enumerate(COLUMNS) if column.name in ("cp", "restecg", "slope", "thal")]
_ORDERED = [index for index in range(len(COLUMNS)) if index not in _NOMINAL]


class HeartParameters(Parameters):
    """Strong regularisation by default: about 200 patients bear a few dozen coefficients only when these are held small."""

    estimator: Annotated[Literal["logistic", "forest"], Choice()] = "logistic"
    """logistic regression, or a random forest"""

    C: Annotated[float | None, Range(0.003, 3.0, log=True)] = Field(default=None, gt=0, le=1e4)
    """inverse strength of the logistic regression's L2 penalty; chosen by cross-validation when not set"""

    trees: Annotated[int, Range(50, 400)] = Field(default=200, ge=1, le=2000)
    """trees of the forest"""


def candidates(parameters: HeartParameters) -> Mapping[str, Estimator]:
    """The kind of estimator that was asked for, in the strengths to choose from."""
    if parameters.estimator == "forest":
        forest = RandomForestClassifier(parameters.trees, min_samples_leaf=5, random_state=parameters.seed)
        return {f"forest trees={parameters.trees}": make_pipeline(_prepared(scaled=False), forest)}
    strengths = [parameters.C] if parameters.C is not None else [0.01, 0.03, 0.1, 0.3, 1.0]
    return {f"logistic C={c:g}": make_pipeline(_prepared(scaled=True), LogisticRegression(C=c, max_iter=2000)) for c in strengths}


def _prepared(*, scaled: bool) -> ColumnTransformer:
    """Missing values filled inside the model: medians for what has an order, the commonest code for what has none."""
    ordered = [SimpleImputer(strategy="median"), *([StandardScaler()] if scaled else [])]
    codes = [list(map(float, COLUMNS[index].codes or {})) for index in _NOMINAL]
    nominal: Pipeline = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(categories=codes, sparse_output=False)
    )
    return ColumnTransformer([("ordered", make_pipeline(*ordered), _ORDERED), ("nominal", nominal, _NOMINAL)])


PROBLEM = Problem(
    name="heart",
    title="Heart disease risk",
    use="Shows how a tabular risk model is trained and served. Class 1 is disease: more than 50 % narrowing of a major vessel.",
    limits=(
        "Not a medical device. Not for decisions about patients.",
        "303 patients of one clinic, referred for angiography in the 1980s: other people differ, and so will the probability.",
        "Two thirds are men; scores for women rest on few patients.",
    ),
    datasets=("heart-cleveland", "heart-cleveland-recoded", "heart-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(name="label", datatype=Datatype.INT64, description="1 = disease", codes={0: "no disease", 1: "disease"}),
            Column(name="probability", datatype=Datatype.FP32, description="probability of disease", minimum=0, maximum=1),
        ),
    ),
    target=Classes(2),
    parameters=HeartParameters,
    candidates=candidates,
    metrics=(AUC, BRIER, LOG_LOSS, ACCURACY),
    selection=LOG_LOSS,  # the product is a probability, and AUC is blind to a wrong one that ranks right
)
