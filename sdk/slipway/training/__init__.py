"""Tasks and datasets: what a package declares so that the platform can train its model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway_contract.signature import Column, ImageSpec, Signature
    from slipway_contract.v2 import Datatype

    from slipway.training.dataset import Dataset, DatasetSettings, Table
    from slipway.training.metric import (
        ACCURACY,
        AUC,
        BRIER,
        CORRELATION,
        LOG_LOSS,
        MACRO_F1,
        MAE,
        RMSE,
        WAPE,
        Direction,
        Metric,
    )
    from slipway.training.space import Choice, Range
    from slipway.training.split import BySubject, ByTime
    from slipway.training.target import Classes, Quantity
    from slipway.training.task import Estimator, Parameters, Task

__all__ = [
    "ACCURACY",
    "AUC",
    "BRIER",
    "CORRELATION",
    "LOG_LOSS",
    "MACRO_F1",
    "MAE",
    "RMSE",
    "WAPE",
    "BySubject",
    "ByTime",
    "Choice",
    "Classes",
    "Column",
    "Dataset",
    "DatasetSettings",
    "Datatype",
    "Direction",
    "Estimator",
    "ImageSpec",
    "Metric",
    "Parameters",
    "Quantity",
    "Range",
    "Signature",
    "Table",
    "Task",
]

_MODULES = {
    "slipway_contract.signature": ("Column", "ImageSpec", "Signature"),
    "slipway_contract.v2": ("Datatype",),
    "slipway.training.dataset": ("Dataset", "DatasetSettings", "Table"),
    "slipway.training.space": ("Choice", "Range"),
    "slipway.training.split": ("BySubject", "ByTime"),
    "slipway.training.target": ("Classes", "Quantity"),
    "slipway.training.task": ("Estimator", "Parameters", "Task"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is used first: scikit-learn and NumPy take a second to import."""
    if name not in __all__:
        raise AttributeError(f"module 'slipway.training' has no attribute {name!r}")
    try:
        module = import_module(_MODULE_OF.get(name, "slipway.training.metric"))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"slipway.training.{name} needs {error.name}; run: pip install 'slipway[training]'",
            name=error.name,
        ) from error
    return getattr(module, name)
