"""Model files of ONNX, skops, XGBoost, LightGBM and CatBoost; none of them can run code."""

import json
from pathlib import Path
from typing import Any

import sklearn
from slipway_contract.pickles import is_pickle, named_like_a_pickle

from slipway.errors import Refused, WrongParameter
from slipway.packaging.boosters import BOOSTER_TYPES
from slipway.packaging.catboost_trees import read_catboost
from slipway.packaging.lightgbm_trees import read_lightgbm
from slipway.packaging.skops_file import read_skops


def read_model(path: Path) -> Any:
    """Return the fitted estimator in a file, or the path of an ONNX file.

    Raises WrongParameter for no file, and Refused for a file that could run code or cannot be read.
    """
    if not path.is_file():
        raise WrongParameter(
            f"model: {path} is not a file; give one of ONNX, skops, XGBoost, LightGBM or CatBoost"
        )
    if named_like_a_pickle(path.name) or is_pickle(path):
        raise Refused(
            f"{path.name} is a pickle, which could run any code: save the model by skops.io.dump "
            "or as ONNX, or log it by slipway.log_model where it was fitted"
        )
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if archive:
        return _of_skops(path)
    if path.suffix in (".ubj", ".json", ".xgb"):
        return _of_xgboost(path)
    if path.suffix in (".txt", ".lgb"):
        return read_lightgbm(path)
    if path.suffix in (".cbm", ".cb"):
        return read_catboost(path)
    return path


def _of_skops(path: Path) -> Any:
    fitted, caveat = read_skops(path, BOOSTER_TYPES)
    if caveat:
        raise Refused(f"{caveat}: fit and save it with {sklearn.__version__}")
    return fitted


def _of_xgboost(path: Path) -> Any:
    try:
        import xgboost
    except ModuleNotFoundError:
        raise WrongParameter(
            f"model: {path.name} is a file of XGBoost; run: pip install 'slipway[xgboost]'"
        ) from None
    content = bytearray(path.read_bytes())  # the library would read a format from the file's name
    try:
        config = json.loads(xgboost.Booster(model_file=content).save_config())
    except xgboost.core.XGBoostError as error:
        raise Refused(
            f"{path.name} is not a model of XGBoost that can be read: {str(error)[:200]}"
        ) from error
    classifies = config["learner"]["objective"]["name"].startswith(("binary:", "multi:"))
    estimator = xgboost.XGBClassifier() if classifies else xgboost.XGBRegressor()
    try:
        estimator.load_model(content)
    except TypeError as error:  # such as a ranker
        raise Refused(f"{path.name} is no classifier or regressor of XGBoost: {error}") from error
    return estimator
