"""Liveness and readiness probes, computed from memory.

A probe that waited for the database would remove every gateway from its Service when it fails.
"""

from typing import Any

from fastapi import Response

from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import Router
from slipway_gateway.access.rules import PROBE
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.eventlog.spool import Spool
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.inference.routing import Routes


class Health:
    """The probe routes.

    Predictions need the routes, the issuer's keys and accounts, the grants and space in the spool.
    After these were read once, predictions need neither issuer nor database.
    """

    def __init__(
        self,
        routes: Routes,
        keys: IssuerKeys,
        directory: Directory | None,
        grants: GrantWatch,
        spool: Spool,
        shipper: Shipper,
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._directory = directory
        self._grants = grants
        self._spool = spool
        self._shipper = shipper

    def router(self) -> Router:
        router = Router(tags=["health"])
        router.add("GET /livez", self.live, PROBE, summary="Return 200 while the process runs")
        router.add(
            "GET /readyz", self.ready, PROBE, summary="Return 200 when the gateway can serve"
        )
        return router

    async def live(self) -> dict[str, str]:
        return {"status": "ok"}

    async def ready(self, response: Response) -> dict[str, Any]:
        needed = {
            "models": "ok"
            if self._routes.age < float("inf")
            else "the API server has not responded yet",
            "identity": "ok" if self._keys.known else self._keys.problem,
            "accounts": "ok"
            if self._directory is None or self._directory.known
            else self._directory.problem,
            "grants": "ok" if self._grants.known else "PostgreSQL has not responded yet",
            "spool": "ok" if self._spool.size < self._spool.limit else "full",
        }
        ready = all(state == "ok" for state in needed.values())
        response.status_code = 200 if ready else 503
        return {"ready": ready, **needed, "database": self._database()}

    def _database(self) -> str:
        """Return the database state after the last shipment and the last read of the grants."""
        return (
            "unavailable, events wait in the spool"
            if self._shipper.problem or self._grants.problem
            else "ok"
        )
