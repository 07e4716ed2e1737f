"""Estimators in another form: of parts that ONNX export and skops have.

Both are compared with the estimator that was given, not with its other form.
"""

from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from slipway.packaging.catboost_trees import as_estimator, is_catboost


def equivalent(fitted: Any) -> Any:
    """Return an estimator with the same predictions; itself where no part needs another form.

    A search is its best estimator, a tuned threshold a fixed one, and boosting that encodes
    categories a pipeline with an encoder.
    """
    if is_catboost(fitted):
        return as_estimator(fitted)
    if isinstance(fitted, Pipeline):
        name, last = fitted.steps[-1]
        if (other := equivalent(last)) is last:
            return fitted
        pipeline = copy(fitted)
        pipeline.steps = [*fitted.steps[:-1], (name, other)]
        return pipeline
    if isinstance(fitted, GridSearchCV | RandomizedSearchCV):
        return equivalent(fitted.best_estimator_)
    if isinstance(fitted, TunedThresholdClassifierCV):
        return _fixed(fitted)
    if isinstance(fitted, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
        return _encoded(fitted)
    return fitted


def _fixed(tuned: TunedThresholdClassifierCV) -> FixedThresholdClassifier:
    """Return the classifier with its threshold; the search refers to functions."""
    fixed = FixedThresholdClassifier(
        tuned.estimator,
        threshold=float(tuned.best_threshold_),
        pos_label=tuned._curve_scorer._get_pos_label(),  # predict reads it there
        response_method=tuned.response_method,
    )
    fixed.estimator_ = tuned.estimator_
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(tuned, name):
            setattr(fixed, name, getattr(tuned, name))
    return fixed


def _encoded(boosting: Any) -> Any:
    """Return an encoder of the categories, and the boosting without its own, which is a function.

    A missing or unknown category is NaN for the trees. Without categories it stays as it is.
    """
    if boosting._preprocessor is None:
        return boosting
    encoder = boosting._preprocessor.named_transformers_["encoder"]
    known = [
        np.asarray([each for each in categories if not pd.isna(each)])
        for categories in encoder.categories_
    ]
    if not all(map(len, known)):  # a column whose values were all missing
        return boosting
    split = boosting.is_categorical_
    names = list(getattr(boosting, "feature_names_in_", range(boosting.n_features_in_)))
    categories, numbers = (
        [name for name, chosen in zip(names, split, strict=True) if chosen == kind]
        for kind in (True, False)
    )
    columns = ColumnTransformer(
        [
            (
                "categories",
                OrdinalEncoder(
                    categories=known, handle_unknown="use_encoded_value", unknown_value=np.nan
                ),
                categories,
            ),
            ("numbers", "passthrough", numbers),
        ]
    )
    row = dict.fromkeys(numbers, 0.0) | {
        name: values[0] for name, values in zip(categories, known, strict=True)
    }
    frame = pd.DataFrame([row])[names]
    columns.fit(frame if hasattr(boosting, "feature_names_in_") else frame.to_numpy())
    trees = copy(boosting)
    trees._preprocessor = trees.is_categorical_ = None
    if hasattr(trees, "feature_names_in_"):
        del trees.feature_names_in_
    return make_pipeline(columns, trees)
