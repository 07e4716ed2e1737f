"""Adapter of CatBoost: its fitted trees as an estimator of scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from slipway.errors import Refused, WrongParameter

_CLASSES = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")
"""Loss functions of classifiers."""


class CatBoostTrees(BaseEstimator):  # type: ignore[misc]
    """Fitted trees. The library's own classes are no estimators of scikit-learn."""

    def __init__(self, trees: Any) -> None:
        self.trees = trees
        self.n_features_in_ = len(trees.feature_names_)
        names = list(trees.feature_names_)
        if names != [str(index) for index in range(len(names))]:  # these are of an array
            self.feature_names_in_ = np.asarray(names, dtype=object)

    def fit(self, _table: Any, _target: Any) -> "CatBoostTrees":
        """Raise NotImplementedError; scikit-learn expects the method of an estimator."""
        raise NotImplementedError("the trees are fitted")

    def predict(self, table: Any) -> NDArray[Any]:
        given = np.asarray(self.trees.predict(table))
        return given.ravel() if given.shape[1:] == (1,) else given


class CatBoostRegressor(RegressorMixin, CatBoostTrees):  # type: ignore[misc]
    """Trees that predict a quantity."""


class CatBoostClassifier(ClassifierMixin, CatBoostTrees):  # type: ignore[misc]
    """Trees that predict classes."""

    def __init__(self, trees: Any) -> None:
        super().__init__(trees)
        self.classes_ = np.asarray(trees.classes_)

    def predict_proba(self, table: Any) -> NDArray[Any]:
        return np.asarray(self.trees.predict_proba(table))


def is_catboost(fitted: Any) -> bool:
    """Return whether it is an object of the library, which need not be installed."""
    return type(fitted).__module__.partition(".")[0] == "catboost"


def as_estimator(trees: Any) -> CatBoostTrees:
    """Return a fitted CatBoostClassifier or CatBoostRegressor as an estimator.

    Raises WrongParameter for another class, and Refused for columns that are not numbers.
    """
    kind = type(trees).__name__
    wrapped = {"CatBoostClassifier": CatBoostClassifier, "CatBoostRegressor": CatBoostRegressor}
    if kind not in wrapped:
        raise WrongParameter(
            f"model: is a {kind}; give a fitted CatBoostClassifier or CatBoostRegressor"
        )
    if not trees.is_fitted():
        raise Refused(f"{kind}: the estimator is not fitted: fit it, then log it")
    for what, numbers, encoder in (
        (
            "categories",
            trees.get_cat_feature_indices(),
            "OneHotEncoder(handle_unknown='ignore'), [{}]",
        ),
        ("texts", trees.get_text_feature_indices(), "TfidfVectorizer(), {}"),
    ):
        if numbers:
            name = repr(trees.feature_names_[numbers[0]])
            raise Refused(
                f"{kind} encodes the {what} of {name} itself, and CatBoost has no ONNX export of "
                "them: give numbers to it, by a pipeline with make_column_transformer(("
                f"{encoder.format(name)}), remainder='passthrough', sparse_threshold=0), and fit "
                "again"
            )
    return wrapped[kind](trees)


def read_catboost(path: Path) -> CatBoostTrees:
    """Return the trees in the file. Raises WrongParameter without the library, and Refused."""
    try:
        import catboost
    except ModuleNotFoundError:
        raise WrongParameter(
            f"model: {path.name} is a file of CatBoost; run: pip install 'slipway[catboost]'"
        ) from None
    try:
        loss = catboost.CatBoost().load_model(str(path)).get_all_params()["loss_function"]
        classifies = loss.partition(":")[0] in _CLASSES
        kind = catboost.CatBoostClassifier if classifies else catboost.CatBoostRegressor
        trees = kind().load_model(str(path))
    except catboost.CatBoostError as error:
        raise Refused(
            f"{path.name} is not a model of CatBoost that can be read: {str(error)[:200]}"
        ) from error
    return as_estimator(trees)
