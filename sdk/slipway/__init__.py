"""Slipway's SDK: package a fitted model and register it as a version."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.model_logging import log_model

__all__ = ["log_model"]


def __getattr__(name: str) -> Any:
    """Import what the extra ``training`` provides when it is used first."""
    if name != "log_model":
        raise AttributeError(f"module 'slipway' has no attribute {name!r}")
    try:
        from slipway.model_logging import log_model
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"slipway.log_model needs {error.name}; run: pip install 'slipway[training]'",
            name=error.name,
        ) from error
    return log_model
