"""Kubernetes Events of a Model under ``/v1``: what the controller did, and why."""

from collections.abc import Sequence
from datetime import datetime

from anyio import to_thread
from pydantic import Field
from slipway_cluster.event import last_seen
from slipway_cluster.interface import MODEL, Cluster, ClusterError, Manifest
from slipway_cluster.interface import NotFound as Missing

from slipway_gateway.access.route import PROBLEMS, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.http.cursor import PAGE, Limit
from slipway_gateway.http.schema import Schema
from slipway_gateway.inference.routing import Routes


class ModelEvent(Schema):
    """A Kubernetes Event of a model."""

    time: datetime = Field(description="when it was last seen")
    type: str = Field(description="Normal or Warning")
    reason: str = Field(description="why, as one word in CamelCase")
    message: str
    count: int = Field(description="how often it was seen")
    object: str = Field(description="kind and name: `Model/heart`")


class ModelEventList(Schema):
    """Events of a model, newest first; the cluster keeps them for about an hour."""

    events: list[ModelEvent]


class ModelEvents:
    """The route of a model's Events."""

    def __init__(self, cluster: Cluster, routes: Routes) -> None:
        self._cluster = cluster
        self._routes = routes

    def router(self) -> Router:
        router = Router(prefix="/v1/models/{model}", responses=PROBLEMS, tags=["models"])
        router.add(
            "GET /events",
            self.list_model_events,
            Permission("events", SCIENTIFIC),
            summary="List the Kubernetes Events of a model",
        )
        return router

    async def list_model_events(self, model: str, limit: Limit = PAGE) -> ModelEventList:
        self._routes.get(model)
        found = await to_thread.run_sync(self._events, model)
        return ModelEventList(events=[_event(each) for each in found[: -limit - 1 : -1]])

    def _events(self, model: str) -> Sequence[Manifest]:
        """Return the Events, the latest last. Raises NotFound, Unavailable."""
        try:
            return self._cluster.events(self._cluster.get(MODEL, model))
        except Missing:
            raise NotFound(f"there is no model {model}") from None
        except (ClusterError, OSError) as error:
            raise Unavailable("the cluster does not answer") from error


def _event(manifest: Manifest) -> ModelEvent:
    about, series = manifest.get("involvedObject", {}), manifest.get("series") or {}
    return ModelEvent(
        time=datetime.fromisoformat(last_seen(manifest)),
        type=manifest.get("type") or "Normal",
        reason=manifest.get("reason") or "",
        message=manifest.get("message") or manifest.get("note") or "",
        count=manifest.get("count") or series.get("count") or 1,
        object=f"{about.get('kind')}/{about.get('name')}",
    )
