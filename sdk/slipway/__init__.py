"""Slipway's SDK: call a platform, package a fitted model and register it as a version."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.async_client import AsyncClient
    from slipway.client import Client
    from slipway.model_logging import log_model

__all__ = ["AsyncClient", "Client", "log_model"]


def __getattr__(name: str) -> Any:
    """Import a name when it is used first; ``log_model`` needs the extra ``training``."""
    if name == "Client":
        from slipway.client import Client

        return Client
    if name == "AsyncClient":
        from slipway.async_client import AsyncClient

        return AsyncClient
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
