"""The model ``heart``: heart disease from 13 clinical inputs."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from slipway.training import Column, Datatype, Signature
from slipway.training.metric import ACCURACY, AUC, BRIER, LOG_LOSS
from slipway.training.space import Choice, Range
from slipway.training.target import Classes
from slipway.training.task import Estimator, Parameters, Task

from slipway_heart.cleveland import COLUMNS

# Codes without an order; the others are numbers, counts, or binary.
_NOMINAL = [
    index
    for index, column in enumerate(COLUMNS)
    if column.name in ("cp", "restecg", "slope", "thal")
]
_ORDERED = [index for index in range(len(COLUMNS)) if index not in _NOMINAL]

FALSE_ALARMS = 4
"""Number of false alarms with the cost of one missed disease: an assumption, not a measurement."""
THRESHOLD = 1 / (1 + FALSE_ALARMS)
"""Probability from which a false alarm costs less than a miss (Elkan 2001).

It follows from FALSE_ALARMS alone, not from rows.
"""


class HeartParameters(Parameters):
    """Parameters. Regularisation is strong by default.

    About 200 patients support a few dozen coefficients only with a strong penalty.
    """

    estimator: Annotated[Literal["logistic", "svc", "forest", "boosting"], Choice()] = "logistic"
    """logistic regression, support vectors, a random forest, or gradient boosting"""

    C: Annotated[float | None, Range(0.003, 3.0, log=True)] = Field(default=None, gt=0, le=1e4)
    """inverse strength of the penalty of logistic and svc; by default cross-validated"""

    trees: Annotated[int, Range(50, 400)] = Field(default=100, ge=1, le=2000)
    """trees of the forest and of the boosting"""


def candidates(parameters: HeartParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator with each candidate strength."""
    trees, seed = parameters.trees, parameters.seed
    if parameters.estimator == "forest":
        forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=seed)
        return {f"forest trees={trees}": _decided(_calibrated(forest))}
    if parameters.estimator == "boosting":
        boosting = GradientBoostingClassifier(
            n_estimators=trees, max_depth=2, learning_rate=0.05, subsample=0.7, random_state=seed
        )
        return {f"boosting trees={trees}": _decided(_calibrated(boosting))}
    strengths = [parameters.C] if parameters.C is not None else [0.01, 0.03, 0.1, 0.3, 1.0]
    if parameters.estimator == "svc":
        return {f"svc C={c:g}": _decided(_calibrated(SVC(C=c)), scaled=True) for c in strengths}
    # Logistic regression minimises the error of its probability; the others need a calibration.
    return {
        f"logistic C={c:g}": _decided(LogisticRegression(C=c, max_iter=2000), scaled=True)
        for c in strengths
    }


def _calibrated(classifier: Estimator) -> Estimator:
    """Return the classifier with Platt's calibration, on folds of the rows that it is fitted on."""
    calibrated: Estimator = CalibratedClassifierCV(
        classifier, method="sigmoid", cv=5, ensemble=False
    )
    return calibrated


def _decided(classifier: Estimator, *, scaled: bool = False) -> Pipeline:
    decided = FixedThresholdClassifier(
        classifier, threshold=THRESHOLD, response_method="predict_proba"
    )
    return make_pipeline(_prepared(scaled=scaled), decided)


def _prepared(*, scaled: bool) -> ColumnTransformer:
    """Return the imputation and encoding of the inputs, as part of the model.

    Missing values become the median of ordered inputs and the most frequent code of others.
    """
    ordered = [SimpleImputer(strategy="median"), *([StandardScaler()] if scaled else [])]
    codes = [list(map(float, COLUMNS[index].codes or {})) for index in _NOMINAL]
    nominal: Pipeline = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(categories=codes, sparse_output=False),
    )
    return ColumnTransformer(
        [("ordered", make_pipeline(*ordered), _ORDERED), ("nominal", nominal, _NOMINAL)]
    )


TASK = Task(
    name="heart",
    title="Heart disease risk",
    use=(
        "Shows how a tabular risk model is trained and served. Class 1 is disease: more than 50 % "
        "narrowing of a major vessel."
    ),
    limits=(
        "Not a medical device. Not for decisions about patients.",
        "303 patients of one clinic, referred for angiography in the 1980s: probabilities for "
        "other populations differ.",
        "Two thirds are men; scores for women are based on few patients.",
        f"The label is disease from a probability of {THRESHOLD:g}, because a missed disease "
        f"counts as {FALSE_ALARMS} false alarms. That is an assumption of this demonstration; "
        "use the probability for other costs.",
    ),
    datasets=("heart-cleveland", "heart-cleveland-recoded", "heart-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(
                name="label", datatype=Datatype.INT64, codes={0: "no disease", 1: "disease"},
                description=(
                    f"1 = disease, from a probability of {THRESHOLD:g}: a miss counts as "
                    f"{FALSE_ALARMS} false alarms"
                ),
            ),
            Column(
                name="probability", datatype=Datatype.FP32, description="probability of disease",
                minimum=0, maximum=1,
            ),
        ),
    ),
    target=Classes(2),
    slices=("sex",),
    parameters=HeartParameters,
    estimators=candidates,
    metrics=(AUC, BRIER, LOG_LOSS, ACCURACY),
    # AUC does not detect a wrong probability with the right order
    selection=LOG_LOSS,
)  # fmt: skip
