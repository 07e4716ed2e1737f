"""Composition of the gateway: one builder for each plane, each of at most eight parts.

Builders import the modules of a plane that a process may lack when they run: the worker has no
control API, and without SCIM there are no people.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import OpenIdConnect
from slipway_cluster.interface import Cluster
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, StatelessLifespan

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import Api, Router, operation_id
from slipway_gateway.access.rules import AccessTable
from slipway_gateway.access.store import AccessStore
from slipway_gateway.edge.async_predictions import AsyncPredictions
from slipway_gateway.edge.authenticator import Authenticator
from slipway_gateway.edge.authorizer import Authorizer
from slipway_gateway.edge.dispatch import Dispatch, RespondAsync
from slipway_gateway.edge.drain import Drain, DrainState
from slipway_gateway.edge.errors import Errors
from slipway_gateway.edge.health import Health
from slipway_gateway.edge.limiter import Limiter, RateLimits
from slipway_gateway.edge.permissions import Permissions
from slipway_gateway.edge.protected_resource import ResourceMetadata
from slipway_gateway.edge.request_id import RequestId
from slipway_gateway.errors import GatewayError, error_response
from slipway_gateway.eventlog.erasure import PseudonymCleanup
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.listing import Listing
from slipway_gateway.eventlog.retention import EventRetention
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.eventlog.spool import Spool
from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.http.addresses import read_networks
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.http.pool import Pool
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.identity.tokens import Tokens
from slipway_gateway.inference.endpoints import Endpoints
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.openapi import document as v2_document
from slipway_gateway.inference.prediction import EventSink, Predictions
from slipway_gateway.inference.prediction_list import PredictionLog
from slipway_gateway.inference.predictors import Predictors
from slipway_gateway.inference.receipts import Receipts
from slipway_gateway.inference.response_cache import ResponseCache
from slipway_gateway.inference.routing import Routes
from slipway_gateway.inference.row_predictions import RowPredictions
from slipway_gateway.inference.v2 import V2
from slipway_gateway.jobs.batchstore import BatchStore
from slipway_gateway.jobs.joblog import LogReaders
from slipway_gateway.jobs.submission import Submissions
from slipway_gateway.limits.concurrency import Concurrency
from slipway_gateway.limits.ledger import Ledger
from slipway_gateway.limits.quotas import Quotas
from slipway_gateway.limits.rates import Rates
from slipway_gateway.limits.ratesharing import RateSharing
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.queue import Queue
from slipway_gateway.preprocessing.image_decoder import Bounds, ImageDecoder
from slipway_gateway.preprocessing.lookup import Features
from slipway_gateway.redis import Redis
from slipway_gateway.settings import Plane, Settings
from slipway_gateway.tasks.deliveries import Deliveries
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from slipway_gateway.control.exports import Exports
    from slipway_gateway.people.accounts import Accounts

DATA_PATHS = r"(/v2(/.*)?|/v1/models/[^/]+/predictions|/v1/predictions(/.*)?)"
OTHER_SERVERS_PATHS = r"/v1/models/[^/]+(:|/versions/[^/]+[:/]).*"
"""Prediction paths of other model servers, whose error text names the path here."""
PEOPLE = r"[A-Z]+ /v1/(users|groups)(/.*)?"
Work = Callable[[], Awaitable[None]]
Lifespan = StatelessLifespan[Api]


@dataclass(frozen=True)
class Infrastructure:
    """The parts that all planes share."""

    settings: Settings
    cluster: Cluster
    metrics: Metrics
    database: Database
    storage: Storage
    tasks: TaskStore
    queue: Queue
    upstream: Upstream

    async def close(self) -> None:
        """Close the connections."""
        await self.database.close()
        await self.upstream.close()


@dataclass(frozen=True)
class Events:
    """The event log: spool, shipper, and the tables of events and images."""

    spool: Spool
    shipper: Shipper
    log: EventLog
    images: ImageStore


@dataclass(frozen=True)
class Inference:
    """The data plane: from the name of a model to the response of a pod."""

    routes: Routes
    endpoints: Endpoints
    pool: Pool
    redis: Redis | None
    metadata_cache: ModelMetadataCache
    features: Features
    v2: V2
    rows: RowPredictions

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the Models and pods of the cluster in this block."""
        self.routes.start()
        self.endpoints.start()
        try:
            yield
        finally:
            self.routes.stop()
            self.endpoints.stop()

    async def close(self) -> None:
        """Close the connections."""
        await self.pool.close()
        if self.redis:
            await self.redis.close()


@dataclass(frozen=True)
class Access:
    """The identity, permissions and limits of callers."""

    keys: IssuerKeys
    accounts: "Accounts | None"
    grants: GrantWatch
    rates: Rates
    ledger: Ledger
    quotas: Quotas


def infrastructure(settings: Settings, cluster: Cluster) -> Infrastructure:
    """Build the connections, without opening them."""
    metrics = Metrics()
    url, seconds = settings.database_url.get_secret_value(), settings.database_seconds
    database = Database(url, statement_seconds=seconds)
    storage = Storage(
        database, per_caller=settings.storage_per_caller, limit=settings.storage_limit
    )
    metrics.watch(
        "slipway_stored_bytes", "Bytes of callers' data in PostgreSQL", lambda: storage.bytes
    )
    metrics.watch(
        "slipway_storage_limit_bytes",
        "Maximum bytes of callers' data in PostgreSQL",
        lambda: settings.storage_limit,
    )
    queue = Queue(url, statement_seconds=seconds)
    keep = timedelta(seconds=settings.task_keep_seconds)
    upstream = Upstream(
        timeout=settings.upstream_timeout_seconds, connect_timeout=settings.upstream_connect_seconds
    )
    return Infrastructure(
        settings=settings,
        cluster=cluster,
        metrics=metrics,
        database=database,
        storage=storage,
        tasks=TaskStore(database, queue, storage, keep=keep),
        queue=queue,
        upstream=upstream,
    )


def event_log(base: Infrastructure) -> Events:
    """Build the event log."""
    settings, metrics = base.settings, base.metrics
    spool = Spool(settings.spool, settings.spool_limit)
    metrics.watch(
        "slipway_spool_bytes",
        "Bytes of events in the spool that wait for PostgreSQL",
        lambda: spool.size,
    )
    metrics.watch(
        "slipway_spool_unreadable",
        "Segments of the spool that cannot be read",
        lambda: len(spool.unreadable),
    )
    log = EventLog(base.database, base.storage)
    return Events(
        spool=spool,
        shipper=Shipper(spool, log, metrics, seconds=settings.ship_seconds),
        log=log,
        images=ImageStore(base.database, base.storage, days=settings.image_days),
    )


def inference(base: Infrastructure, events: Events, sink: EventSink | None = None) -> Inference:
    """Build the data plane; ``sink`` replaces the spool as destination of events."""
    settings, metrics = base.settings, base.metrics
    routes = Routes(base.cluster, watch_seconds=settings.watch_seconds)
    metrics.watch(
        "slipway_routes_age_seconds",
        "Time since the last response of the API server",
        lambda: routes.age,
    )
    endpoints = Endpoints(base.cluster, watch_seconds=settings.watch_seconds)
    pool = Pool(
        timeout=settings.upstream_timeout_seconds,
        connect_timeout=settings.upstream_connect_seconds,
        head_limit=settings.log_body_limit,
    )
    token = settings.predictor_token.get_secret_value() if settings.predictor_token else None
    predictors = Predictors(base.upstream, pool, endpoints, token)
    redis = _redis(base)
    predictions = Predictions(
        predictors,
        sink or events.spool,
        metrics,
        ResponseCache(settings.cache_limit, redis),
        bounds=settings.bounds,
        log_body_limit=settings.log_body_limit,
    )
    metrics.watch(
        "slipway_waiting",
        "Predictions that wait in the admission queues",
        lambda: predictions.waiting,
    )
    metadata_cache = ModelMetadataCache(predictors, events.log, routes)
    features = Features(base.database, metrics, seconds=settings.watch_seconds)
    bounds = Bounds(settings.image_limit, settings.image_pixels, settings.image_seconds)
    return Inference(
        routes=routes,
        endpoints=endpoints,
        pool=pool,
        redis=redis,
        metadata_cache=metadata_cache,
        features=features,
        v2=V2(
            routes,
            predictions,
            metadata_cache,
            body_limit=settings.body_limit,
            value_limit=settings.value_limit,
            keep=settings.log_body_limit,
        ),
        rows=RowPredictions(
            routes,
            predictions,
            metadata_cache,
            ImageDecoder(bounds),
            events.images,
            features,
            value_limit=settings.value_limit,
        ),
    )


def _redis(base: Infrastructure) -> Redis | None:
    settings = base.settings
    if not settings.redis_url:
        return None
    redis = Redis(
        settings.redis_url.get_secret_value(),
        settings.redis_password.get_secret_value() if settings.redis_password else None,
        seconds=settings.redis_seconds,
        rest_seconds=settings.redis_rest_seconds,
    )
    base.metrics.watch(
        "slipway_redis_up",
        "1 after a successful request to Redis, 0 after a failed one",
        lambda: not redis.is_away,
    )
    return redis


def access(base: Infrastructure) -> Access:
    """Build the identity, permissions and limits of callers."""
    settings, metrics = base.settings, base.metrics
    keys = IssuerKeys(
        settings.oidc_issuer,
        settings.oidc_discovery_url or settings.oidc_issuer,
        base.upstream.json,
        refresh_seconds=settings.oidc_refresh_seconds,
        refetch_seconds=settings.oidc_refetch_seconds,
    )
    grants = GrantWatch(
        settings.database_url.get_secret_value(),
        seconds=settings.watch_seconds,
        statement_seconds=settings.database_seconds,
    )
    metrics.watch(
        "slipway_grants_age_seconds", "Time since the last read of the grants", lambda: grants.age
    )
    metrics.watch(
        "slipway_grants_unreadable",
        "Invalid grants, which grant nothing",
        lambda: len(grants.unreadable),
    )
    ledger = Ledger(base.database)
    return Access(keys, _accounts(base, keys), grants, Rates(), ledger, Quotas(ledger))


def _accounts(base: Infrastructure, keys: IssuerKeys) -> "Accounts | None":
    settings = base.settings
    if not (settings.scim_url and settings.scim_client_id and settings.scim_client_secret):
        return None
    from slipway_gateway.people.accounts import Accounts
    from slipway_gateway.people.scim import Scim

    secret = settings.scim_client_secret.get_secret_value()
    scim = Scim(base.upstream, keys, settings.scim_url, settings.scim_client_id, secret)
    accounts = Accounts(scim, seconds=settings.users_seconds, leeway=settings.oidc_leeway_seconds)
    base.metrics.watch(
        "slipway_accounts_age_seconds",
        "Time since the last read of the issuer's accounts",
        lambda: accounts.age,
    )
    return accounts


def data_routes(
    base: Infrastructure, events: Events, data: Inference, access: Access
) -> list[Router]:
    """Build the routes of the data plane in FastAPI: predictions from rows, list and receipts."""
    receipts = Receipts(
        data.metadata_cache, events.log, events.shipper, events.images, access.grants, base.metrics
    )
    log = PredictionLog(data.routes, access.grants, Listing(base.database), events.shipper)
    return [data.rows.router(), log.router(), receipts.router()]


def control_routes(
    base: Infrastructure, events: Events, data: Inference, access: Access
) -> list[Router]:
    """Build the routes of the control plane that the OpenAPI document describes."""
    from slipway_gateway.control.account import Account
    from slipway_gateway.control.administration import Administration
    from slipway_gateway.control.declarations import Declarations
    from slipway_gateway.control.exports import Exports
    from slipway_gateway.control.features import FeatureRoutes
    from slipway_gateway.control.labels import Labels
    from slipway_gateway.control.model_events import ModelEvents
    from slipway_gateway.control.models import Models
    from slipway_gateway.control.rollbacks import Rollbacks
    from slipway_gateway.control.tasks import Tasks
    from slipway_gateway.control.usage import Usage
    from slipway_gateway.control.versions import Versions
    from slipway_gateway.control.webhooks import Webhooks

    database, settings = base.database, base.settings
    exports = Exports(settings.database_url.get_secret_value())
    policies, grants = AccessStore.of_policies(database), AccessStore.of_grants(database)
    outbound = Outbound(settings.webhook_hosts)
    declarations = Declarations(
        base.cluster,
        data.routes,
        access.grants,
        Audit(database),
        settings.trusted_model_fields,
    )
    return [
        Models(data.routes, access.grants, data.metadata_cache, database).router(),
        Versions(data.routes, database).router(),
        ModelEvents(base.cluster, data.routes).router(),
        declarations.router(),
        FeatureRoutes(data.features, data.routes, access.grants, data.metadata_cache).router(),
        Labels(data.routes, database, exports).router(),
        *people_routes(base, access),
        *Administration(policies, grants, Audit(database)).routers(),
        Account(access.grants, access.ledger, events.shipper).router(),
        Usage(access.ledger, events.shipper).router(),
        Rollbacks(base.cluster, data.routes, Audit(database)).router(),
        *job_routes(base, data, access, exports),
        Tasks(base.tasks).router(),
        Webhooks(Deliveries(database), outbound).router(),
    ]


def people_routes(base: Infrastructure, access: Access) -> list[Router]:
    """Build the routes of users and groups; without SCIM there are none."""
    if access.accounts is None:
        return []
    from slipway_gateway.people.users import Users

    return Users(access.accounts, base.database).routers()


def job_routes(
    base: Infrastructure, data: Inference, access: Access, exports: "Exports"
) -> list[Router]:
    """Build the routes of trainings, promotions and batches, which are Jobs of the cluster."""
    from slipway_gateway.control.batches import Batches, BatchTerms
    from slipway_gateway.control.promotions import Promotions
    from slipway_gateway.control.trainings import Trainings

    settings, audit = base.settings, Audit(base.database)
    submissions = Submissions(base.cluster, per_caller=settings.jobs_per_caller)
    batches = Batches(
        data.routes,
        submissions,
        BatchStore(base.database, base.storage),
        Outbound(settings.webhook_hosts, settings.batch_hosts),
        audit,
        access.quotas,
        exports,
        BatchTerms(
            template=settings.batch_template,
            limit=settings.batch_limit,
            rows=settings.batch_rows,
            keep=timedelta(seconds=settings.batch_keep_seconds),
        ),
    )
    return [
        Trainings(data.routes, submissions, audit, LogReaders()).router(),
        Promotions(data.routes, submissions, audit, settings.promotion_template).router(),
        batches.router(),
    ]


def document_routes(
    base: Infrastructure, data: Inference, access: Access, described: Api
) -> list[Router]:
    """Build the routes of the OpenAPI document and of its page."""
    from slipway_gateway.control.docs import Docs
    from slipway_gateway.control.openapi import ApiDocument

    settings = base.settings
    document = ApiDocument(
        described.openapi, data.routes, access.grants, data.metadata_cache, data.features
    )
    return [document.router(), Docs(settings.oidc_issuer, settings.docs_client).router()]


def health_routes(events: Events, data: Inference, access: Access) -> Router:
    """Build the routes of the probes."""
    return Health(
        data.routes, access.keys, access.accounts, access.grants, events.spool, events.shipper
    ).router()


def resource_routes(settings: Settings) -> Router:
    """Build the route of the OAuth metadata."""
    client, proxies = settings.cli_client or settings.docs_client, settings.trusted_proxies
    return ResourceMetadata(settings.oidc_issuer, client, read_networks(proxies)).router()


def api(settings: Settings, routers: Iterable[Router], lifespan: Lifespan | None = None) -> Api:
    """Build the FastAPI application of these routes."""
    # The edge has validated the token; this describes the login in OpenAPI.
    discovery = f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration"
    scheme = OpenIdConnect(
        openIdConnectUrl=discovery, scheme_name="OpenID Connect", auto_error=False
    )
    application = Api(
        title="Slipway",
        summary="Predictions with receipts",
        version=version("slipway-gateway"),
        openapi_url=None,  # ApiDocument and Docs have these routes
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        outside=v2_document(security=[{scheme.scheme_name: []}]),
    )
    for router in routers:
        application.include_router(router, dependencies=[Security(scheme)])
    for kind in (
        GatewayError,
        InvalidInput,
        MalformedRequest,
        TooManyValues,
        HTTPException,
        RequestValidationError,
        Exception,
    ):
        application.add_exception_handler(kind, _error_response)
    return application


async def _error_response(request: Request, error: Exception) -> Response:
    status, headers, body = error_response(
        error, request.url.path, request.scope["slipway.request_id"]
    )
    response = Response(body, status)
    response.raw_headers = headers
    return response


def planes(
    base: Infrastructure, events: Events, data: Inference, access: Access, lifespan: Lifespan
) -> tuple[Api, AccessTable]:
    """Build the routes of the planes in the settings, and the access table of exactly these.

    The OpenAPI document of the control plane also describes the data plane.
    """
    served = base.settings.planes
    other = "this gateway serves the plane {} (SLIPWAY_GATEWAY_PLANES); the path belongs to {}"
    rows = data_routes(base, events, data, access)
    control = control_routes(base, events, data, access) if Plane.CONTROL in served else []
    application = api(base.settings, [*rows, *control], lifespan)
    undescribed = [health_routes(events, data, access), resource_routes(base.settings)]
    unserved = {}
    if Plane.CONTROL in served:
        undescribed += document_routes(base, data, access, application)
        if access.accounts is None:
            unserved[PEOPLE] = (
                "user management is not configured; set SLIPWAY_SCIM_URL, SLIPWAY_SCIM_CLIENT_ID "
                "and SLIPWAY_SCIM_CLIENT_SECRET"
            )
    else:
        unserved[rf"[A-Z]+ (?!{DATA_PATHS}|{OTHER_SERVERS_PATHS})/v1/.*"] = other.format(*Plane)
    for router in undescribed:
        application.include_router(router)
    rules = [rule for router in [*control, *undescribed] for rule in router.rules]
    if Plane.INFERENCE in served:
        rules = [*data.v2.rules, *(rule for router in rows for rule in router.rules), *rules]
    else:
        unserved[rf"[A-Z]+ {DATA_PATHS}"] = other.format(*reversed(Plane))
    return application, AccessTable(rules, unserved)


def edge(
    base: Infrastructure,
    data: Inference,
    access: Access,
    application: Api,
    table: AccessTable,
    bodies: BodyBudget,
    drain: DrainState,
) -> ASGIApp:
    """Build the middlewares, in the order in which a request passes them."""
    settings, proxies = base.settings, read_networks(base.settings.trusted_proxies)
    middlewares: list[Callable[[ASGIApp], ASGIApp]] = [
        partial(RequestId, lifespan=application, drain=drain),
        partial(Errors, metrics=base.metrics, proxies=proxies),
        partial(Permissions, table=table),
        partial(Drain, state=drain),
        partial(
            Authenticator,
            tokens=Tokens(settings.token_rules, access.keys),
            directory=access.accounts,
            rates=access.rates,
            proxies=proxies,
            refused_per_minute=settings.refused_per_minute,
        ),
        partial(
            Authorizer,
            directory=access.accounts,
            grants=access.grants,
            routes=data.routes,
            rates=access.rates,
            proxies=proxies,
            requests_per_minute=settings.requests_per_minute,
        ),
        partial(
            Limiter,
            rates=access.rates,
            quotas=access.quotas,
            concurrency=Concurrency(settings.concurrency_per_caller),
            bodies=bodies,
            proxies=proxies,
            per_minute=RateLimits(
                predictions=settings.predictions_per_minute,
                training=settings.training_per_minute,
                feedback=settings.feedback_per_minute,
                requests=settings.requests_per_minute,
            ),
        ),
        partial(
            RespondAsync,
            predictions=AsyncPredictions(
                data.routes,
                data.metadata_cache,
                data.features,
                base.tasks,
                body_limit=settings.task_body_limit,
                value_limit=settings.value_limit,
                per_caller=settings.tasks_per_caller,
            ),
        ),
    ]
    handler: ASGIApp = dispatch(base, data, application)
    for middleware in reversed(middlewares):
        handler = middleware(handler)
    return handler


def dispatch(base: Infrastructure, data: Inference, application: Api) -> Dispatch:
    """Build the end of the middlewares, which calls the handler of a route."""
    return Dispatch(data.v2, application, base.metrics, body_limit=base.settings.body_limit)


def background(base: Infrastructure, events: Events, data: Inference, access: Access) -> list[Work]:
    """Return the work that runs beside the requests until it is cancelled."""
    work: list[Work] = [
        access.keys.keep_fresh,
        access.grants.keep,
        access.quotas.keep,
        RateSharing(base.database, access.rates).keep,
        events.shipper.run,
        events.images.keep,
        PseudonymCleanup(base.database).keep,
        base.storage.keep,
        data.metadata_cache.keep,
        data.features.keep,
    ]
    if Plane.CONTROL in base.settings.planes:
        from slipway_gateway.control.alias_moves import AliasMoves

        settings = base.settings
        expiry = EventRetention(
            base.database,
            base.cluster,
            body_days=settings.retention_body_days,
            fact_days=settings.retention_fact_days,
        )
        work += [AliasMoves(base.database, data.routes).keep, expiry.keep]
    if accounts := access.accounts:
        work.append(accounts.keep)
    if accounts and Plane.CONTROL in base.settings.planes:
        from slipway_gateway.people.deprovisioned import DeprovisionedUsers

        seconds = base.settings.deprovisioned_seconds
        deprovisioned = DeprovisionedUsers(base.database, accounts.scim, seconds=seconds)
        work.append(deprovisioned.keep)
    return work
