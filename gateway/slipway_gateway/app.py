"""Composition of the gateway: its parts, the control API and the ASGI application."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import OpenIdConnect
from slipway_cluster.interface import Cluster
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from starlette.exceptions import HTTPException

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.store import AccessStore
from slipway_gateway.control.administration import Administration
from slipway_gateway.control.batches import Batches
from slipway_gateway.control.docs import Docs
from slipway_gateway.control.exports import Exports
from slipway_gateway.edge.health import Health
from slipway_gateway.control.labels import Labels
from slipway_gateway.control.models import Models
from slipway_gateway.control.openapi import ApiDocument
from slipway_gateway.control.promotions import Promotions
from slipway_gateway.inference.receipts import Receipts
from slipway_gateway.access.route import ControlApi, operation_id
from slipway_gateway.control.tasks import Tasks
from slipway_gateway.control.trainings import Trainings
from slipway_gateway.control.usage import Usage
from slipway_gateway.people.users import Users
from slipway_gateway.control.webhooks import Webhooks
from slipway_gateway.edge.async_predictions import AsyncPredictions
from slipway_gateway.edge.authenticator import Authenticator
from slipway_gateway.edge.authorizer import Authorizer
from slipway_gateway.edge.dispatch import EdgeMiddleware
from slipway_gateway.errors import GatewayError, problem
from slipway_gateway.people.deprovisioned import DeprovisionedUsers
from slipway_gateway.eventlog.erasure import PseudonymCleanup
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.eventlog.spool import Spool
from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.http.addresses import read_networks
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.http.connection import Connection
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.http.pool import Pool
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.identity.tokens import Tokens
from slipway_gateway.inference.endpoints import Endpoints
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.prediction import EventSink, Predictions
from slipway_gateway.inference.predictors import Predictors
from slipway_gateway.inference.response_cache import ResponseCache
from slipway_gateway.inference.routing import Routes
from slipway_gateway.inference.v2 import V2
from slipway_gateway.jobs.batchstore import BatchStore
from slipway_gateway.jobs.joblog import LogReaders
from slipway_gateway.jobs.submission import Submissions
from slipway_gateway.limits.concurrency import Concurrency
from slipway_gateway.limits.ledger import Ledger
from slipway_gateway.limits.quotas import Quotas
from slipway_gateway.limits.rates import Rates
from slipway_gateway.limits.ratesharing import RateSharing
from slipway_gateway.people.accounts import Accounts
from slipway_gateway.people.scim import Scim
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.postgresql.queue import Queue
from slipway_gateway.preprocessing.image_decoder import Bounds, ImageDecoder
from slipway_gateway.preprocessing.lookup import Features
from slipway_gateway.redis import Redis
from slipway_gateway.settings import Settings
from slipway_gateway.tasks.deliveries import Deliveries
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.telemetry.metrics import Metrics
from slipway_gateway.telemetry.tracing import Application, Traced
from slipway_gateway.telemetry.tracing import wanted as tracing_wanted

log = logging.getLogger(__name__)

SHORTEST_SHIPMENT_SECONDS = 5.0
CLOSING_SECONDS = 12.0
"""Part of the grace period for a shipment that waits for PostgreSQL and for closing connections."""
RESTART_SECONDS = 2.0


class Gateway:
    """All parts of one gateway. ``application`` is the ASGI application with their lifespan."""

    def __init__(
        self, settings: Settings, cluster: Cluster, event_sink: EventSink | None = None
    ) -> None:
        """Compose the gateway; ``event_sink`` replaces the spool as destination of events."""
        self.settings = settings
        self.ends_at: float | None = None
        """Monotonic time of SIGKILL; None before SIGTERM."""
        self.metrics = Metrics()
        self.upstream = Upstream(
            timeout=settings.upstream_timeout_seconds,
            connect_timeout=settings.upstream_connect_seconds,
        )
        self.pool = Pool(
            timeout=settings.upstream_timeout_seconds,
            connect_timeout=settings.upstream_connect_seconds,
            head_limit=settings.log_body_limit,
        )
        self.keys = IssuerKeys(
            settings.oidc_issuer,
            settings.oidc_discovery_url or settings.oidc_issuer,
            self.upstream.json,
            refresh_seconds=settings.oidc_refresh_seconds,
            refetch_seconds=settings.oidc_refetch_seconds,
        )
        self.accounts = self._scim_accounts()
        self.routes = Routes(cluster, watch_seconds=settings.watch_seconds)
        self.endpoints = Endpoints(cluster, watch_seconds=settings.watch_seconds)
        token = settings.predictor_token.get_secret_value() if settings.predictor_token else None
        self.predictors = Predictors(self.upstream, self.pool, self.endpoints, token)
        self.spool = Spool(settings.spool, settings.spool_limit)
        database_url = settings.database_url.get_secret_value()
        seconds = settings.database_seconds
        self.database = Database(database_url, statement_seconds=seconds)
        self.grants = GrantWatch(
            database_url, seconds=settings.watch_seconds, statement_seconds=seconds
        )
        self.storage = Storage(
            self.database, per_caller=settings.storage_per_caller, limit=settings.storage_limit
        )
        self.metrics.watch(
            "slipway_stored_bytes",
            "Bytes of callers' data in PostgreSQL",
            lambda: self.storage.bytes,
        )
        self.metrics.watch(
            "slipway_storage_limit_bytes",
            "Maximum bytes of callers' data in PostgreSQL",
            lambda: settings.storage_limit,
        )
        self.events = EventLog(self.database, self.storage)
        self.features = Features(self.database, self.metrics, seconds=settings.watch_seconds)
        self.image_store = ImageStore(self.database, self.storage, days=settings.image_days)
        self.ledger = Ledger(self.database)
        self.rates = Rates()
        self.bodies = BodyBudget(settings.body_budget, settings.body_budget_per_caller)
        self.metrics.watch(
            "slipway_body_bytes", "Bytes of request bodies in memory", lambda: self.bodies.used
        )
        self.quotas = Quotas(self.ledger)
        self.shipper = Shipper(self.spool, self.events, self.metrics, seconds=settings.ship_seconds)
        self.metadata_cache = ModelMetadataCache(self.predictors, self.events, self.routes)
        self.metrics.watch(
            "slipway_spool_bytes",
            "Bytes of events in the spool that wait for PostgreSQL",
            lambda: self.spool.size,
        )
        self.metrics.watch(
            "slipway_spool_unreadable",
            "Segments of the spool that cannot be read",
            lambda: len(self.spool.unreadable),
        )
        self.metrics.watch(
            "slipway_routes_age_seconds",
            "Time since the last response of the API server",
            lambda: self.routes.age,
        )
        self.submissions = Submissions(cluster, per_caller=settings.jobs_per_caller)
        self.metrics.watch(
            "slipway_grants_age_seconds",
            "Time since the last read of the grants",
            lambda: self.grants.age,
        )
        self.metrics.watch(
            "slipway_grants_unreadable",
            "Invalid grants, which grant nothing",
            lambda: len(self.grants.unreadable),
        )
        self.queue = Queue(database_url, statement_seconds=seconds)
        keep = timedelta(seconds=settings.task_keep_seconds)
        self.tasks = TaskStore(self.database, self.queue, self.storage, keep=keep)
        self.batches = BatchStore(self.database, self.storage)
        self.exports = Exports(database_url)
        self._event_sink = event_sink or self.spool
        if accounts := self.accounts:
            self.metrics.watch(
                "slipway_accounts_age_seconds",
                "Time since the last read of the issuer's accounts",
                lambda: accounts.age,
            )
        self.redis = self._redis_client()
        self.control = self._control_api()
        self.edge = self._edge_middleware()
        self.traced = Traced(self.edge) if tracing_wanted() else None
        self.application: Application = self.traced or self.edge

    def _edge_middleware(self) -> EdgeMiddleware:
        settings = self.settings
        tokens = Tokens(settings.token_rules, self.keys)
        v2 = V2(
            self.routes,
            self._predictions,
            self.metadata_cache,
            body_limit=settings.body_limit,
            value_limit=settings.value_limit,
            keep=settings.log_body_limit,
        )
        proxies = read_networks(settings.trusted_proxies)
        authenticator = Authenticator(
            tokens,
            self.accounts,
            self.rates,
            proxies,
            refused_per_minute=settings.refused_per_minute,
        )
        authorizer = Authorizer(
            self.grants,
            self.routes,
            self.rates,
            self.quotas,
            Concurrency(settings.concurrency_per_caller),
            predictions_per_minute=settings.predictions_per_minute,
            training_per_minute=settings.training_per_minute,
            feedback_per_minute=settings.feedback_per_minute,
            requests_per_minute=settings.requests_per_minute,
        )
        async_predictions = AsyncPredictions(
            self.routes,
            self.metadata_cache,
            self.features,
            self.tasks,
            body_limit=settings.task_body_limit,
            value_limit=settings.value_limit,
            per_caller=settings.tasks_per_caller,
        )
        return EdgeMiddleware(
            authenticator,
            authorizer,
            v2,
            self.control,
            async_predictions,
            self.metrics,
            self.bodies,
            body_limit=settings.body_limit,
        )

    def _scim_accounts(self) -> Accounts | None:
        settings = self.settings
        if not (settings.scim_url and settings.scim_client_id and settings.scim_client_secret):
            return None
        secret = settings.scim_client_secret.get_secret_value()
        scim = Scim(self.upstream, self.keys, settings.scim_url, settings.scim_client_id, secret)
        return Accounts(scim, seconds=settings.users_seconds, leeway=settings.oidc_leeway_seconds)

    def _redis_client(self) -> Redis | None:
        settings = self.settings
        if not settings.redis_url:
            return None
        password = settings.redis_password.get_secret_value() if settings.redis_password else None
        seconds, rest_seconds = settings.redis_seconds, settings.redis_rest_seconds
        redis = Redis(
            settings.redis_url.get_secret_value(),
            password,
            seconds=seconds,
            rest_seconds=rest_seconds,
        )
        self.metrics.watch(
            "slipway_redis_up",
            "1 after a successful request to Redis, 0 after a failed one",
            lambda: not redis.is_away,
        )
        return redis

    def _control_api(self) -> FastAPI:
        settings = self.settings
        self._predictions = Predictions(
            self.predictors,
            self._event_sink,
            self.metrics,
            ResponseCache(settings.cache_limit, self.redis),
            bounds=settings.bounds,
            log_body_limit=settings.log_body_limit,
        )
        self.metrics.watch(
            "slipway_waiting",
            "Predictions that wait in the admission queues",
            lambda: self._predictions.waiting,
        )
        bounds = Bounds(settings.image_limit, settings.image_pixels, settings.image_seconds)
        images = ImageDecoder(bounds)
        models = Models(
            self.routes,
            self.grants,
            self._predictions,
            self.metadata_cache,
            images,
            self.image_store,
            self.features,
            value_limit=settings.value_limit,
        )
        receipts = Receipts(
            self.metadata_cache,
            self.events,
            self.shipper,
            self.image_store,
            self.grants,
            self.metrics,
        )
        labels = Labels(self.routes, self.database, self.exports)
        health = Health(
            self.routes, self.keys, self.accounts, self.grants, self.spool, self.shipper
        )
        api = ControlApi(
            title="Slipway",
            summary="Predictions with receipts",
            version=version("slipway-gateway"),
            openapi_url=None,  # ApiDocument and Docs have these routes
            lifespan=self._lifespan,
            generate_unique_id_function=operation_id,
        )
        # The edge middleware has validated the token; this describes the login in OpenAPI.
        discovery = f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration"
        scheme = OpenIdConnect(
            openIdConnectUrl=discovery, scheme_name="OpenID Connect", auto_error=False
        )
        for router in (
            models.router(),
            receipts.router(),
            labels.router(),
            Users(self.accounts, self.database).router(),
            Administration(
                AccessStore.of_policies(self.database),
                AccessStore.of_grants(self.database),
                Audit(self.database),
            ).router(),
            Usage(self.ledger, self.shipper).router(),
            *self._job_routers(),
        ):
            api.include_router(router, dependencies=[Security(scheme)])
        api.include_router(health.router())
        api.include_router(
            ApiDocument(
                api.openapi, self.routes, self.grants, self.metadata_cache, self.features
            ).router()
        )
        api.include_router(Docs(settings.oidc_issuer, settings.docs_client).router())
        for kind in (
            GatewayError,
            InvalidInput,
            MalformedRequest,
            TooManyValues,
            HTTPException,
            RequestValidationError,
            Exception,
        ):
            api.add_exception_handler(kind, _problem)
        return api

    def _job_routers(self) -> list[APIRouter]:
        audit = Audit(self.database)
        trainings = Trainings(self.routes, self.submissions, LogReaders(), audit)
        promotions = Promotions(
            self.routes, self.submissions, self.settings.promotion_template, audit
        )
        webhooks = Webhooks(Deliveries(self.database), Outbound(self.settings.webhook_hosts))
        batches = Batches(
            self.routes,
            self.submissions,
            self.batches,
            Outbound(self.settings.webhook_hosts, self.settings.batch_hosts),
            audit,
            self.quotas,
            self.storage,
            self.exports,
            template=self.settings.batch_template,
            limit=self.settings.batch_limit,
            rows=self.settings.batch_rows,
            keep=timedelta(seconds=self.settings.batch_keep_seconds),
        )
        return [
            trainings.router(),
            promotions.router(),
            Tasks(self.tasks).router(),
            webhooks.router(),
            batches.router(),
        ]

    def _background(self) -> list[Callable[[], Awaitable[None]]]:
        work = [
            self.keys.keep_fresh,
            self.grants.keep,
            self.shipper.run,
            self.metadata_cache.keep,
            self.quotas.keep,
            self.image_store.keep,
        ]
        work += [
            self.storage.keep,
            self.features.keep,
            RateSharing(self.database, self.rates).keep,
            PseudonymCleanup(self.database).keep,
        ]
        if self.accounts:
            deprovisioned = DeprovisionedUsers(
                self.database, self.accounts.scim, seconds=self.settings.deprovisioned_seconds
            )
            work += [self.accounts.keep, deprovisioned.keep]
        return [*work]

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_supervised(each)) for each in self._background()]
        try:
            async with self.watching():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(DatabaseUnavailable, TimeoutError):
                await asyncio.wait_for(self.quotas.close(), SHORTEST_SHIPMENT_SECONDS)
            await self._ship_remaining()
            await self.close()

    async def _ship_remaining(self) -> None:
        """Ship the events in the spool until shortly before the end of the grace period.

        The next process with this folder ships the remaining events.
        """
        now = time.monotonic()
        ends_at = now + self.settings.grace_seconds if self.ends_at is None else self.ends_at
        until = max(ends_at - CLOSING_SECONDS, now + SHORTEST_SHIPMENT_SECONDS)
        if left := await self.shipper.finish(until):
            log.error(
                "%d bytes of events remain in %s at the end of the grace period of %g s, and are "
                "lost if the folder is deleted with the pod; PostgreSQL: %s",
                left,
                self.settings.spool,
                self.settings.grace_seconds,
                self.shipper.problem or "too slow",
            )

    def connection(self, *arguments: Any, **named: Any) -> Connection:
        """Return the protocol of a client connection, for uvicorn."""
        return Connection(
            *arguments,
            limits=self.settings.limits,
            bodies=self.bodies,
            refused=self.metrics.refused,
            **named,
        )

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
        """Close files and connections."""
        self.spool.close()
        await self.database.close()
        await self.pool.close()
        await self.upstream.close()
        if self.redis:
            await self.redis.close()
        if self.traced:
            await asyncio.to_thread(self.traced.close)


async def _supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until cancelled; log an unexpected error and restart the work."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; restarting in %g s", work.__qualname__, RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)


async def _problem(request: Request, error: Exception) -> Response:
    status, headers, body = problem(error, request.url.path, request.scope["slipway.request_id"])
    response = Response(body, status)
    response.raw_headers = headers
    return response
