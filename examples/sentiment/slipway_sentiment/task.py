"""The task ``sentiment``: rules first, then a regression on words."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from slipway.training.dataset import Features, Labels
from slipway.training.metric import CORRELATION, MAE, Direction, Metric, Predictions
from slipway.training.target import Quantity
from slipway.training.task import Estimator, Parameters, Task
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

from slipway_sentiment.bounded_score import bounded_score
from slipway_sentiment.ratings import COLUMNS
from slipway_sentiment.vader import SENTIMENTS, compound_scores, labels, vader

MACRO_F1 = Metric(
    "macro_f1", Direction.MAX, "F1 of negative, neutral and positive, the mean over the three",
    lambda truth, scores: float(f1_score(labels(truth), labels(scores), average="macro",
    zero_division=0)),
)  # fmt: skip


class SentimentParameters(Parameters):
    """Parameters. Rules do not depend on the training rows; the regression does."""

    folds: int = Field(default=3, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    estimator: Literal["rules", "words"] = "rules"
    """VADER's rules, or a ridge regression on the words"""

    ngrams: int = Field(default=1, ge=1, le=3)
    """largest number of consecutive words in a feature"""

    alpha: float = Field(default=1.0, gt=0, le=1e4)
    """strength of the ridge regression's penalty"""

    features: int = Field(default=20_000, ge=100, le=200_000)
    """number of the most frequent features that are used"""


class Vader(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """The rules with the words of their package: compound scores [rows] of texts [rows, 1]."""

    def fit(self, x: Features, y: Labels) -> "Vader":  # noqa: ARG002  # there is nothing to fit
        return self

    def predict(self, x: Features) -> Predictions:
        return compound_scores(SentimentIntensityAnalyzer(), x.ravel())


_WORD = r"[a-zA-Z0-9']+|[!?]"


class Words(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """Ridge regression on tf-idf of words and marks, clipped to -1 to 1.

    Inputs are texts [rows, 1], predictions [rows] FP64.
    """

    def __init__(self, ngrams: int = 1, features: int = 20_000, alpha: float = 1.0) -> None:
        self.ngrams, self.features, self.alpha = ngrams, features, alpha

    def fit(self, x: Features, y: Labels) -> "Words":
        # No lower case, because ONNX Runtime needs a locale for it, which a slim image does not
        # have. ASCII words only, because its \\w matches no others.
        words = TfidfVectorizer(
            lowercase=False, token_pattern=_WORD, min_df=2,
            ngram_range=(1, self.ngrams), max_features=self.features,
        )  # fmt: skip
        self.pipeline_ = make_pipeline(
            ColumnTransformer([("words", words, 0)]), Ridge(self.alpha)
        ).fit(x, y)
        return self

    def predict(self, x: Features) -> Predictions:
        return np.asarray(np.clip(self.pipeline_.predict(x), -1, 1))


def candidates(parameters: SentimentParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator."""
    if parameters.estimator == "rules":
        return {f"VADER {vader().version}": Vader()}
    words = Words(parameters.ngrams, parameters.features, parameters.alpha)
    return {f"words alpha={parameters.alpha:g}": words}


def exported(estimator: Any, signature: Signature) -> Any:
    """Export rules as their words, and a regression as a graph."""
    return (
        vader() if isinstance(estimator, Vader) else bounded_score(estimator.pipeline_, signature)
    )


TASK = Task(
    name="sentiment",
    title="Sentiment of a text",
    use=(
        "Shows how texts are served, and how a trained version replaces rules: the sentiment of "
        "an English sentence."
    ),
    limits=(
        "English only; other languages are neutral or random.",
        "Each text has some twenty ratings; the texts are tweets, reviews and editorials of 2004 "
        "to 2013, and scores for other texts differ.",
        "VADER's authors rated its words on tweets like those in the data.",
        "The film review of a sentence is not recorded, so sentences of one review may be in both "
        "parts of the split.",
        "A regression on words ignores their order: 'not good' is 'not' and 'good'. It also "
        "assigns a sentiment to names.",
        "Not for decisions about people.",
    ),
    datasets=("rated-texts", "sentences-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(
                name="compound", datatype=Datatype.FP32, minimum=-1, maximum=1,
                description="sentiment, from negative to positive",
            ),
            Column(
                name="label", datatype=Datatype.INT64, codes=SENTIMENTS,
                description="neutral is between -0.05 and 0.05",
            ),
        ),
    ),
    target=Quantity(),
    parameters=SentimentParameters,
    estimators=candidates,
    export=exported,
    metrics=(CORRELATION, MAE, MACRO_F1),
    selection=CORRELATION,
)  # fmt: skip
