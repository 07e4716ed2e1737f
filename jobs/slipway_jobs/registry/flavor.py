"""Flavors of MLflow that are adopted, and for the others what to log instead."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from slipway.errors import Refused
from slipway_contract.pickles import is_pickle, named_like_a_pickle

from slipway_jobs.registry.mlmodel import LoggedModel

_FILES: Mapping[str, tuple[str, str]] = {
    "onnx": ("data", "model.onnx"),
    "sklearn": ("pickled_model", "model.pkl"),
    "xgboost": ("data", "model.xgb"),
    "lightgbm": ("data", "model.lgb"),
    "catboost": ("data", "model.cb"),
}
"""For each adopted flavor: the key of ``MLmodel`` with the name of the model file, and MLflow's
default for it."""

_LOG_ONNX = (
    "mlflow.onnx.log_model(onnx.load('model.onnx'), name='model', registered_model_name={name!r}, "
    "input_example=X.head())"
)

_REMEDIES: Mapping[str, tuple[str, str]] = {
    "catboost": (
        "whose library is not in the image of this Job",
        "pip install 'slipway[catboost]' where the model was fitted, then "
        "slipway.log_model(model, {name!r}, reference=X)",
    ),
    "pytorch": (
        "a pickle, which could run any code",
        "torch.onnx.export(model.eval(), (x,), 'model.onnx', input_names=['x'], "
        f"dynamic_axes={{{{'x': {{{{0: 'rows'}}}}}}}}, dynamo=False), then {_LOG_ONNX}",
    ),
    "tensorflow": (
        "a program of TensorFlow, which could run any code",
        f"tf2onnx.convert.from_keras(model, output_path='model.onnx'), then {_LOG_ONNX}",
    ),
    "keras": (
        "a file of Keras, which could run any code",
        f"tf2onnx.convert.from_keras(model, output_path='model.onnx'), then {_LOG_ONNX}",
    ),
}
"""For each flavor that is not adopted: the reason, and the commands that log it as one that is."""

_SKOPS = (
    "mlflow.{flavor}.log_model(model, name='model', registered_model_name={name!r}, "
    "serialization_format='skops', input_example=X.head())"
)

_SUPPORTED = "onnx, sklearn, xgboost, lightgbm"


def model_file(logged: LoggedModel, name: str) -> tuple[str, Path]:
    """Return the flavor that is adopted, and the path of its model file.

    ``name`` is the registered model. Raises Refused, with the commands to log it again.
    """
    flavors = logged.description.flavors
    flavor = next((each for each in _FILES if each in flavors), None)
    if flavor is None or (flavor == "catboost" and find_spec("catboost") is None):
        raise Refused(_refusal(flavors.keys() - {"python_function"}, name))
    key, default = _FILES[flavor]
    path = logged.file(flavors[flavor].get(key) or default, logged.limit)
    if flavor != "onnx" and (named_like_a_pickle(path.name) or is_pickle(path)):
        form = str(flavors[flavor].get("serialization_format", "pickle"))[:20]
        raise Refused(
            f"it was logged as {flavor} in {form}, which could run any code; log it again where "
            f"it was fitted, {_SKOPS.format(flavor=flavor, name=name)}, and {_ALIAS}"
        )
    return flavor, path


_ALIAS = "move the alias to the new version"


def _refusal(flavors: set[str], name: str) -> str:
    known = next((each for each in _REMEDIES if each in flavors), None)
    if known:
        reason, commands = _REMEDIES[known]
        commands = commands.format(name=name)
        return f"it was logged as {known}, {reason}; run {commands}, and {_ALIAS}"
    if not flavors:
        return (
            "it was logged as python_function, which is code in cloudpickle; log the fitted model "
            f"in it by its own flavor ({_SUPPORTED}), such as "
            f"{_SKOPS.format(flavor='sklearn', name=name)}, and {_ALIAS}"
        )
    kinds = ", ".join(sorted(each[:50] for each in flavors)[:5])
    return (
        f"it was logged as {kinds}, which is not adopted ({_SUPPORTED} are); export the model to "
        f"ONNX, run {_LOG_ONNX.format(name=name)}, and {_ALIAS}"
    )
