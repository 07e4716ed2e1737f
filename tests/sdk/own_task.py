"""A package of a user: a task on a data frame of mixed types."""

from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from slipway.training import ACCURACY, AUC, BySubject, Classes, Parameters, Range, Task

from tests.sdk.churn import customers


class ChurnParameters(Parameters):
    """Parameters of the regression."""

    folds: int = Field(default=3, ge=2, le=20)
    """parts of the cross-validation"""

    C: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """inverse strength of the penalty"""


def load() -> pd.DataFrame:
    """Return one row per month and customer."""
    table, left = customers()
    return table.assign(customer=[f"c{number // 2}" for number in range(len(table))], left=left)


def build(parameters: ChurnParameters) -> dict[str, Any]:
    """Return the pipeline by name."""
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), ["monthly fee", "age"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["city", "plan", "active"]),
            ("note", TfidfVectorizer(), "note"),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(C=parameters.C, max_iter=2000))
    return {f"logistic C={parameters.C:g}": model}


task = Task(
    name="own-churn",
    use="Customers who are about to leave.",
    data=load,
    target=Classes(2, column="left"),
    split=BySubject(column="customer"),
    estimators=build,
    parameters=ChurnParameters,
    metrics=(AUC, ACCURACY),
)
