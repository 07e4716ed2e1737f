"""A gateway that serves nothing: its parts know its routes and its metrics."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from slipway_gateway.app import Gateway
from slipway_gateway.settings import Settings
from slipway_local.standin.local_cluster import LocalCluster


@contextmanager
def gateway() -> Iterator[Gateway]:
    """Give a gateway with all optional parts, so that all metrics are there; it opens no
    connection.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            cluster=f"local://{folder}",
            database_url=SecretStr("postgresql://slipway@database/slipway"),
            oidc_issuer="https://login.example.com",
            oidc_audience="slipway-api",
            scim_url="https://login.example.com/scim/v2",
            scim_client_id="slipway-gateway",
            scim_client_secret=SecretStr("a placeholder, never sent"),
            redis_url=SecretStr("redis://redis"),
            spool=Path(folder) / "spool",
        )
        made = Gateway(settings, LocalCluster(Path(folder)))
        try:
            yield made
        finally:
            asyncio.run(made.close())
