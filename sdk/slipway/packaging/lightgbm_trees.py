"""Trees in a text file of LightGBM as an estimator, which the library itself cannot load."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from slipway.errors import Refused, WrongParameter


class LightGBMTrees(BaseEstimator):  # type: ignore[misc]
    """Fitted trees; the attributes are those that the converter of onnxmltools reads."""

    boosting_type = "gbdt"

    def __init__(self, booster: Any) -> None:
        self.booster = booster
        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()
        self.feature_names_in_ = np.asarray(booster.feature_name(), dtype=object)

    def fit(self, _table: Any, _target: Any) -> "LightGBMTrees":
        """Raise NotImplementedError; scikit-learn expects the method of an estimator."""
        raise NotImplementedError("trees of a file are fitted")


class LightGBMRegressor(RegressorMixin, LightGBMTrees):  # type: ignore[misc]
    """Trees that predict a quantity."""

    def predict(self, table: Any) -> NDArray[Any]:
        return np.asarray(self.booster_.predict(table))


class LightGBMClassifier(ClassifierMixin, LightGBMTrees):  # type: ignore[misc]
    """Trees that predict classes, which the file numbers from 0."""

    def __init__(self, booster: Any) -> None:
        super().__init__(booster)
        self.classes_ = np.arange(max(2, booster.num_model_per_iteration()))

    def predict_proba(self, table: Any) -> NDArray[Any]:
        given = np.asarray(self.booster_.predict(table))
        return given if given.ndim == 2 else np.stack([1 - given, given], axis=1)

    def predict(self, table: Any) -> NDArray[Any]:
        chosen: NDArray[Any] = self.classes_[self.predict_proba(table).argmax(axis=1)]
        return chosen


def read_lightgbm(path: Path) -> LightGBMTrees:
    """Return the trees in the file. Raises WrongParameter without the library, and Refused."""
    try:
        import lightgbm
    except ModuleNotFoundError:
        raise WrongParameter(
            f"model: {path.name} is a file of LightGBM; run: pip install 'slipway[lightgbm]'"
        ) from None
    try:
        booster = lightgbm.Booster(model_file=path)
        objective = str(booster.dump_model(num_iteration=1).get("objective", ""))
    except lightgbm.basic.LightGBMError as error:
        raise Refused(
            f"{path.name} is not a model of LightGBM that can be read: {str(error)[:200]}"
        ) from error
    classifies = objective.startswith(("binary", "multiclass"))
    return LightGBMClassifier(booster) if classifies else LightGBMRegressor(booster)
