"""Feature sets under ``/v1/features``, with the values of their keys."""

import time
from datetime import date, datetime
from typing import Annotated

from fastapi import Query
from pydantic import Field
from slipway_contract.errors import InvalidInput
from slipway_contract.features import FeatureColumn, FeatureKey, KeyType

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.http.cursor import PAGE, Cursor, Limit, cursor_of, name_of
from slipway_gateway.http.schema import Schema
from slipway_gateway.identity.roles import Role
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Routes
from slipway_gateway.preprocessing.lookup import Features, StoredSet


class FeatureSetAnswer(Schema):
    """A declared feature set and its freshness."""

    name: str
    description: str
    owner: str
    keys: list[FeatureKey]
    columns: list[FeatureColumn]
    models: list[str] = Field(description="Models that may look it up: names or globs")
    newest: date = Field(description="day of the newest fact in the values")
    age_seconds: float = Field(description="seconds since the end of that day in UTC")
    max_age_seconds: int | None
    fresh: bool = Field(description="false: older than `maxAgeSeconds`")
    computed: datetime
    synthetic: bool


class FeatureSetList(Schema):
    """Feature sets by name."""

    features: list[FeatureSetAnswer]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: it is the last")


class KeyValues(Schema):
    """Values of a key in the order of code points, without wildcards."""

    key: str
    values: list[str | int]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: it is the last")


class FeatureRoutes:
    """The routes of feature sets.

    A caller sees the feature sets that the live versions of granted models look up, if the feature
    set admits these Models; an admin sees all. The keys may name persons or customers, and the
    author of a version can name any feature set in its signature: its publisher names the Models.
    """

    def __init__(
        self,
        features: Features,
        routes: Routes,
        grants: GrantWatch,
        metadata_cache: ModelMetadataCache,
    ) -> None:
        self._features = features
        self._routes = routes
        self._grants = grants
        self._metadata_cache = metadata_cache

    def router(self) -> Router:
        router = Router(prefix="/v1/features", responses=PROBLEMS, tags=["features"])
        permission = Permission("features", ALL)
        router.add(
            "GET ",
            self.list_features,
            permission,
            summary="List the feature sets of the models granted to you",
        )
        router.add(
            "GET /{name}/keys",
            self.list_feature_keys,
            permission,
            summary="List the values of a key of a feature set",
        )
        return router

    async def list_features(
        self, context: CurrentContext, limit: Limit = PAGE, cursor: Cursor = None
    ) -> FeatureSetList:
        after = name_of(cursor) if cursor is not None else ""
        found = [each for each in await self._visible(context) if each.declared.name > after]
        following = cursor_of(found[limit - 1].declared.name) if len(found) > limit else None
        return FeatureSetList(
            features=[_answer(each) for each in found[:limit]], next_cursor=following
        )

    async def list_feature_keys(
        self,
        name: str,
        context: CurrentContext,
        key: Annotated[str, Query(max_length=100, description="name of the key")],
        prefix: Annotated[str, Query(max_length=200, description="start of the values")] = "",
        limit: Limit = PAGE,
        cursor: Cursor = None,
    ) -> KeyValues:
        visible = {each.declared.name: each.declared for each in await self._visible(context)}
        if (declared := visible.get(name)) is None:
            raise NotFound(
                f'feature set "{name[:100]}" does not exist, or no model that is granted to you '
                "looks it up; GET /v1/features lists those that you may read"
            )
        types = {each.name: each.type for each in declared.keys}
        if key not in types:
            raise InvalidInput(
                "key", f'{key!r} is no key of feature set "{name}"; it has {", ".join(types)}'
            )
        if "\0" in prefix:
            raise InvalidInput("prefix", "contains a null character; remove it")
        after = name_of(cursor) if cursor is not None else ""
        values = await self._features.values(name, key, prefix, after, limit + 1)
        following = cursor_of(values[limit - 1]) if len(values) > limit else None
        shown: list[str | int] = [*values[:limit]]
        if types[key] is KeyType.INTEGER:
            shown = [int(value) for value in values[:limit]]
        return KeyValues(key=key, values=shown, next_cursor=following)

    async def _visible(self, context: RequestContext) -> list[StoredSet]:
        found = await self._features.sets()
        if Role.ADMIN in context.caller.roles:
            return found
        looked_up = await self._looked_up(context)
        return [
            each
            for each in found
            if any(
                name == each.declared.name and each.declared.admits(model)
                for name, model in looked_up
            )
        ]

    async def _looked_up(self, context: RequestContext) -> set[tuple[str, str]]:
        """Return feature set and Model of each look-up by a live version of a granted model."""
        granted, now = self._grants.snapshot, time.time()
        found: set[tuple[str, str]] = set()
        for name, route in self._routes.snapshot.items():
            if route.live and granted.find(context.caller, name, now):
                try:
                    signature = await self._metadata_cache.signature(route.live)
                except Unavailable:
                    continue
                if signature.lookup:
                    found.add((signature.lookup.features, name))
        return found


def _answer(stored: StoredSet) -> FeatureSetAnswer:
    declared, age = stored.declared, stored.age()
    return FeatureSetAnswer(
        name=declared.name,
        description=declared.description,
        owner=declared.owner,
        keys=list(declared.keys),
        columns=list(declared.columns),
        models=list(declared.models),
        newest=declared.newest,
        age_seconds=age,
        max_age_seconds=declared.max_age_seconds,
        fresh=declared.max_age_seconds is None or age <= declared.max_age_seconds,
        computed=stored.computed,
        synthetic=declared.synthetic,
    )
