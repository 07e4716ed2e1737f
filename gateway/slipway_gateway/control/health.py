"""Probes: alive says that the process answers, ready that it can serve. Both are computed from
memory: a probe that waited for the database would take every gateway out of its Service together
with it.
"""

from typing import Any

from fastapi import APIRouter, Response

from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.eventlog.spool import Spool
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.inference.routing import Routes
from slipway_gateway.people.accounts import Accounts


class Health:
    """Predictions need the routes, the issuer's keys and accounts, the grants and room in the
    spool. Once these were read, they need neither issuer nor database.
    """

    def __init__(
        self,
        routes: Routes,
        keys: IssuerKeys,
        accounts: Accounts | None,
        grants: GrantWatch,
        spool: Spool,
        shipper: Shipper,
    ) -> None:
        self._routes = routes
        self._keys = keys
        self._accounts = accounts
        self._grants = grants
        self._spool = spool
        self._shipper = shipper

    def router(self) -> APIRouter:
        router = APIRouter()
        router.get("/livez", summary="Is the process alive")(self.live)
        router.get("/readyz", summary="Can it serve")(self.ready)
        return router

    async def live(self) -> dict[str, str]:
        return {"status": "ok"}

    async def ready(self, response: Response) -> dict[str, Any]:
        needed = {
            "models": "ok"
            if self._routes.age < float("inf")
            else "the cluster has not answered yet",
            "identity": "ok" if self._keys.known else self._keys.problem,
            "accounts": "ok"
            if self._accounts is None or self._accounts.known
            else self._accounts.problem,
            "grants": "ok" if self._grants.known else "the database has not answered yet",
            "spool": "ok" if self._spool.size < self._spool.limit else "full",
        }
        ready = all(state == "ok" for state in needed.values())
        response.status_code = 200 if ready else 503
        return {"ready": ready, **needed, "database": self._database()}

    def _database(self) -> str:
        """What the last shipment and the last reading of the grants found."""
        return (
            "away, events wait in the spool"
            if self._shipper.problem or self._grants.problem
            else "ok"
        )
