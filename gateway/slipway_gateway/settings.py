"""The settings of the gateway, from environment variables."""

from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from slipway_contract.body import VALUES
from slipway_contract.retention import MIN_FACT_DAYS

from slipway_gateway.access.trusted_fields import TRUSTED_FIELDS
from slipway_gateway.http.addresses import read_networks
from slipway_gateway.http.connection import Limits
from slipway_gateway.identity.groups import GroupClaim
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import TokenRules
from slipway_gateway.inference.admission_queue import Bounds


class Plane(StrEnum):
    """A part of the gateway that a process can serve alone."""

    INFERENCE = "inference"
    CONTROL = "control"


class Settings(BaseSettings):
    """Environment variables with the prefix ``SLIPWAY_``, for example ``SLIPWAY_DATABASE_URL``."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_", use_attribute_docstrings=True, frozen=True
    )

    cluster: str
    """Location of the Models: ``local:///folder`` or ``kubernetes://NAMESPACE``."""

    database_url: SecretStr
    """URL of the PostgreSQL database, ``postgresql://user:password@host/database``."""

    database_seconds: float = Field(default=20, gt=0, le=300)
    """Timeout of a statement in PostgreSQL; that of a transaction is three times as long. After it
    the connection is closed, and the request gets 503 or the work is retried on a new connection.
    """

    oidc_issuer: str
    """The issuer of access tokens, exactly as in their ``iss`` claim."""

    oidc_discovery_url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of the issuer's discovery document and keys, if the gateway cannot reach the public
    URL. The document and ``iss`` must still contain ``SLIPWAY_OIDC_ISSUER``.
    """

    oidc_audience: str
    """Required value in the ``aud`` claim: a name for this API. It must not be the id of an OAuth
    client, because the client's ID tokens have that audience.
    """

    oidc_require_at_jwt: bool = False
    """True: tokens must have the type ``at+jwt`` (RFC 9068), as those of the bundled issuer do. Set
    it if the issuer supports the type.
    """

    oidc_refused_claims: frozenset[str] = frozenset({"at_hash", "c_hash", "nonce"})
    """Claims that mark an ID token, as a JSON list: a token with one of them is rejected, unless
    its type is ``at+jwt``. Keycloak before 24 includes ``nonce`` in access tokens: omit it there.
    """

    oidc_roles_claim: str = Field(default="groups", min_length=1)
    """The claim with the caller's groups, a list or a string: its name, or a path with dots such as
    ``realm_access.roles``.
    """

    oidc_roles_prefix: str = ""
    """Prefix of groups, for example ``/``: it is removed, and groups without it are ignored."""

    oidc_roles: dict[str, Literal[Role.USER, Role.SCIENTIST, Role.ADMIN]] = {}
    """Mapping of groups (without the prefix) to roles, as a JSON object: ``{"ml-platform":
    "admin"}``. Other groups give no role. Empty: the groups ``user``, ``scientist`` and ``admin``
    give the roles of the same names.
    """

    docs_client: str = Field(default="slipway", min_length=1)
    """Public OAuth client of the page ``/v1/docs``. Its redirect URIs at the issuer must include
    ``…/v1/docs/login``, and its access tokens must have the audience SLIPWAY_OIDC_AUDIENCE.
    """

    cli_client: str | None = None
    """Public OAuth client of command lines, which ``/.well-known/oauth-protected-resource`` names;
    by default SLIPWAY_DOCS_CLIENT. Its redirect URIs at the issuer must include that of
    ``slipway login``, ``http://127.0.0.1:47115/``, and its access tokens must have the audience
    SLIPWAY_OIDC_AUDIENCE.
    """

    oidc_leeway_seconds: int = Field(default=30, ge=0, le=300)
    """Allowed clock difference between issuer and gateway."""

    oidc_refresh_seconds: float = Field(default=300, gt=0)
    """Interval at which the issuer's keys are fetched; the previous keys remain in use while the
    issuer is unavailable.
    """

    oidc_refetch_seconds: float = Field(default=10, ge=0)
    """Minimum interval between two fetches that tokens with an unknown key id cause."""

    scim_url: str | None = Field(default=None, pattern=r"^https?://.*[^/]$")
    """Public base URL of the issuer's SCIM 2.0 service, for example
    ``https://login.example.org/scim/v2``. The gateway manages users and groups there and rejects
    tokens of users that are disabled or deleted. The ``userName`` must be the ``sub`` of tokens.
    Not set: ``/v1/users`` and ``/v1/groups`` are disabled, and a token is valid until it expires.
    """

    scim_client_id: str | None = None
    """OAuth client of the gateway for SCIM (client credentials)."""

    scim_client_secret: SecretStr | None = Field(default=None, min_length=16)
    """Secret of that client."""

    users_seconds: float = Field(default=60, gt=0, le=240)
    """Interval at which all users are read: tokens of a disabled user are rejected after this time
    and the duration of the read.
    """

    deprovisioned_seconds: float = Field(default=900, gt=0)
    """Time for which an account must be missing at the issuer before its name is erased from the
    log, as by ``DELETE /v1/me``; the account is searched three times in this period.
    """

    gateway_host: str = "127.0.0.1"
    """Address to listen on, for requests and for metrics."""

    gateway_port: int = Field(default=8080, ge=0, le=65535)
    """Port of ``/v1``, ``/v2``, ``/livez`` and ``/readyz``."""

    gateway_metrics_port: int = Field(default=9090, ge=0, le=65535)
    """Port of ``/metrics``, separate so that it does not have to be reachable for users."""

    gateway_planes: str = "inference,control"
    """Planes that this process serves, separated by commas: ``inference`` (``/v2``, predictions and
    their receipts) and ``control`` (all other routes under ``/v1``). Probes and metrics are always
    served.
    """

    drain_seconds: float = Field(default=0, ge=0)
    """Time between SIGTERM, when readiness becomes false, and the end of new connections, in which
    load balancers remove the gateway. Every response in this period closes its connection.
    """

    body_limit: int = Field(default=16 * 2**20, gt=0)
    """Maximum size of a request body in bytes; above it 413."""

    value_limit: int = Field(default=VALUES, gt=0)
    """Maximum number of values in a prediction request, rows × columns; above it 413, with the
    advice to send a batch. Other requests wait while one is processed, about ten milliseconds with
    the default. Predictors have the separate limit ``SLIPWAY_SERVING_VALUE_LIMIT``.
    """

    body_budget: int = Field(default=64 * 2**20, gt=0)
    """Maximum total size in bytes of the request bodies in memory, of all callers; above it 503.
    Bodies of more than 64 KiB may use three quarters of it, so that small bodies are always
    accepted.
    """

    body_budget_per_caller: int = Field(default=32 * 2**20, gt=0)
    """Maximum total size in bytes of one caller's request bodies in memory; above it 429. The
    declared length of a request counts before its body is read.
    """

    concurrency_per_caller: int = Field(default=64, gt=0)
    """Maximum number of concurrent requests of one caller at this gateway; above it 429."""

    image_limit: int = Field(default=10 * 2**20, gt=0)
    """Maximum size of an uploaded image in bytes; above it 413. SLIPWAY_BODY_LIMIT also applies to
    the whole request.
    """

    image_pixels: int = Field(default=40_000_000, gt=0)
    """Maximum number of pixels of an image, checked before it is decoded; above it 422."""

    image_seconds: int = Field(default=10, gt=0)
    """Maximum wall and CPU time to decode the images of a request; after it 422."""

    image_days: int = Field(default=30, ge=0)
    """Days for which PostgreSQL stores uploaded images, without duplicates; 0: images are not
    stored.
    """

    storage_per_caller: int = Field(default=2**30, gt=0)
    """Maximum size in bytes of one caller's images, tasks, batches, results and feedback in
    PostgreSQL; above it 429 for requests that store more.
    """

    storage_limit: int = Field(default=4 * 2**30, gt=0)
    """Maximum size in bytes of these data of all callers; above it 507. It must be well below the
    size of the database volume, which also contains the event log.
    """

    predictor_token: SecretStr | None = Field(default=None, min_length=16)
    """Token for requests to predictors, the value of their ``SLIPWAY_SERVING_TOKEN``."""

    cache_limit: int = Field(default=32 * 2**20, ge=0)
    """Maximum size of the response cache in bytes, for policies with ``cacheSeconds``."""

    redis_url: SecretStr | None = None
    """Redis or Valkey for a response cache that replicas share: ``redis://host:6379/0``,
    ``rediss://…`` with TLS, or ``unix:///path``. Not set: each replica has a separate cache.
    """

    redis_password: SecretStr | None = Field(default=None, min_length=16)
    """Password of Redis, if the URL contains none."""

    redis_seconds: float = Field(default=0.1, gt=0, le=5)
    """Timeout of Redis; after it Redis is not used for SLIPWAY_REDIS_REST_SECONDS."""

    redis_rest_seconds: float = Field(default=5, gt=0)
    """Time without requests to Redis after an error, in which replicas use separate caches."""

    predictions_per_minute: int = Field(default=180, ge=1, le=10**7)
    """Predictions a minute of one caller under one policy, if the policy has no rate."""

    training_per_minute: int = Field(default=5, ge=1, le=10**7)
    """Trainings and promotions that one caller may create in a minute."""

    feedback_per_minute: int = Field(default=180, ge=1, le=10**7)
    """Labels and comments that one caller may send in a minute."""

    jobs_per_caller: int = Field(default=10, ge=1)
    """Maximum number of running trainings, promotions and batches of one caller; above it 429."""

    requests_per_minute: int = Field(default=3000, ge=1, le=10**7)
    """Requests a minute of one caller to all other routes together, or of one address without a
    token. Probes are not limited.
    """

    refused_per_minute: int | None = Field(default=None, ge=1, le=10**7)
    """Rejected tokens a minute from one address; above it the gateway validates no token from this
    address that is not cached. Not set: no limit. Do not set it if all callers seem to have one
    address, behind a proxy that is not trusted or with address translation.
    """

    trusted_proxies: str = ""
    """Networks of trusted proxies, as ``10.0.0.0/8, fd00::/8``, whose ``X-Forwarded-For`` gives the
    client address.
    """

    upstream_timeout_seconds: float = Field(default=30, gt=0)
    """Timeout of a predictor's response, including the connection; after it 504."""

    upstream_connect_seconds: float = Field(default=2, gt=0)
    """Timeout of a connection to a predictor; after it one retry on another pod, then 503."""

    predictor_concurrency: int = Field(default=64, gt=0)
    """Maximum number of concurrent requests of this gateway to one pod of a predictor. The default
    is sufficient for full utilization; further requests would only wait in the pod.
    """

    queue_length: int = Field(default=256, ge=0)
    """Maximum number of waiting requests for each version of a model; above it 503. A waiting
    request needs up to SLIPWAY_LOG_BODY_LIMIT of memory.
    """

    queue_seconds: float = Field(default=1, gt=0)
    """Maximum time that a request waits for a predictor; after it 503, so that the caller can
    retry.
    """

    connection_limit: int = Field(default=4096, gt=0)
    """Maximum number of open connections; further ones get 503 and are closed. Each needs about
    20 KiB.
    """

    head_limit: int = Field(default=32 * 2**10, ge=2**12)
    """Maximum size of the head of a request in bytes, including tokens with many groups; above it
    431.
    """

    head_seconds: float = Field(default=10, gt=0)
    """Maximum time from the start of a connection, or from the first byte of a request, to the end
    of the headers; after it 408.
    """

    body_seconds: float = Field(default=60, gt=0)
    """Maximum time from the headers to the end of the body; after it 408. 16 MiB in a minute is
    2.2 Mbit/s.
    """

    idle_seconds: float = Field(default=75, gt=0)
    """Time after which a connection without a request is closed. It must be longer than that of
    load balancers, so that they close connections first.
    """

    write_seconds: float = Field(default=30, gt=0)
    """Maximum time in which a caller reads nothing of a response; after it the connection is
    closed.
    """

    grace_seconds: float = Field(default=120, gt=0)
    """Time between SIGTERM and SIGKILL, a pod's ``terminationGracePeriodSeconds``. The time after
    the drain and the running requests, minus 12 seconds, is for shipping the events in the spool to
    PostgreSQL; a gateway with an empty spool ends immediately.
    """

    spool: Path = Path(".slipway/spool")
    """Folder of the events that wait for PostgreSQL. It must outlive the process, on a persistent
    volume or an emptyDir.
    """

    spool_limit: int = Field(default=2**30, gt=0)
    """Maximum size of the spool in bytes. Above it predictions get 503, because the gateway sends
    no response that it cannot log.
    """

    ship_seconds: float = Field(default=0.5, gt=0)
    """Time between two shipments of events to PostgreSQL."""

    log_body_limit: int = Field(default=64 * 2**10, ge=0)
    """Maximum size in bytes of a logged request or response body; larger ones are null."""

    retention_body_days: int = Field(default=0, ge=0, le=9999)
    """Days for which the event log stores requests and responses, for Models without
    ``spec.retention.bodies``; 0: as long as the row.
    """

    retention_fact_days: int = Field(default=0, ge=0, le=9999)
    """Days for which the event log stores predictions with their feedback, for Models without
    ``spec.retention.facts``: 0 (without end), or at least 30 and SLIPWAY_RETENTION_BODY_DAYS.
    """

    promotion_template: str = Field(default="promote", min_length=1)
    """Name of the suspended CronJob with the Job template of promotions."""

    task_body_limit: int = Field(default=2**20, gt=0)
    """Maximum body size of an asynchronous prediction in bytes, which PostgreSQL stores."""

    tasks_per_caller: int = Field(default=1000, gt=0)
    """Maximum number of unfinished tasks of one caller; above it 429."""

    task_attempts: int = Field(default=8, ge=1)
    """Maximum number of attempts for an unavailable model; after it the task is dead."""

    task_backoff_seconds: float = Field(default=1, gt=0)
    """Time before the second attempt; it doubles with each attempt, up to five minutes."""

    task_keep_seconds: float = Field(default=86400, gt=0)
    """Time after its end at which a task and its response are deleted."""

    task_concurrency: int = Field(default=8, ge=1, le=100)
    """Maximum number of concurrent tasks of a worker."""

    task_heartbeat_seconds: float = Field(default=5, gt=0)
    """Time between two heartbeats of a worker. After three missing heartbeats, other workers take
    its tasks.
    """

    webhook_hosts: frozenset[str] = frozenset()
    """Host names without public addresses that webhooks may use, as a JSON list. All other hosts
    must have public addresses.
    """

    webhook_attempts: int = Field(default=8, ge=1)
    """Maximum number of attempts to deliver a message, 2, 4, 8 … seconds apart, up to ten
    minutes.
    """

    webhook_failures: int = Field(default=24, ge=1)
    """Number of consecutive failed attempts after which a webhook is disabled. From the fifth on,
    all messages of the webhook pause for 2, 4, 8 … seconds, up to ten minutes; with the default, a
    webhook is disabled after about two hours.
    """

    webhook_concurrency: int = Field(default=8, ge=1, le=100)
    """Maximum number of concurrent deliveries of a worker, in addition to its tasks; at most two to
    one host and two of one caller.
    """

    batch_template: str = Field(default="batch", min_length=1)
    """Name of the suspended CronJob with the Job template of batches."""

    batch_limit: int = Field(default=64 * 2**20, gt=0)
    """Maximum size of a batch's file in bytes; above it 413."""

    batch_rows: int = Field(default=5_000_000, gt=0)
    """Maximum number of rows of a batch; above it 422. The footer of a Parquet file contains the
    number.
    """

    batch_hosts: frozenset[str] = frozenset()
    """Host names from which the gateway may download a batch's file by https, as a JSON list; none
    by default.
    """

    batch_keep_seconds: float = Field(default=7 * 86400, gt=0)
    """Time after the upload at which a batch's file and result are deleted."""

    trusted_model_fields: frozenset[str] = frozenset()
    """Fields of a Model with rights of the platform that callers may set over HTTP, as a JSON list:
    ``allowFormats``, ``predictor.runtime``, ``predictor.format``,
    ``predictor.serviceAccountName``, ``predictor.priorityClassName``, ``predictor.podLabels``,
    ``predictor.podAnnotations``, ``predictor.affinity``, ``predictor.tolerations``,
    ``training.template``, ``training.job``.
    """

    watch_seconds: float = Field(default=30, gt=0)
    """Interval at which all Models, EndpointSlices and grants are read, in addition to
    notifications of changes.
    """

    @model_validator(mode="after")
    def _scim_is_complete(self) -> Self:
        if self.scim_url and not (self.scim_client_id and self.scim_client_secret):
            raise ValueError(
                "SLIPWAY_SCIM_URL requires SLIPWAY_SCIM_CLIENT_ID and SLIPWAY_SCIM_CLIENT_SECRET"
            )
        return self

    @model_validator(mode="after")
    def _drain_fits_into_grace(self) -> Self:
        if self.drain_seconds >= self.grace_seconds:
            raise ValueError("SLIPWAY_DRAIN_SECONDS must be less than SLIPWAY_GRACE_SECONDS")
        return self

    @model_validator(mode="after")
    def _the_largest_body_fits(self) -> Self:
        if self.body_limit > min(self.body_budget_per_caller, self.body_budget * 3 // 4):
            raise ValueError(
                "SLIPWAY_BODY_LIMIT exceeds SLIPWAY_BODY_BUDGET_PER_CALLER or three quarters of "
                "SLIPWAY_BODY_BUDGET, so a body of that size would always be rejected; lower it "
                "or raise the budgets"
            )
        return self

    @model_validator(mode="after")
    def _facts_outlive_bodies(self) -> Self:
        least = max(MIN_FACT_DAYS, self.retention_body_days)
        if 0 < self.retention_fact_days < least:
            raise ValueError(
                f"SLIPWAY_RETENTION_FACT_DAYS {self.retention_fact_days} is too low; set it to "
                f"{least} or more, or to 0 for rows without end"
            )
        return self

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("gateway_planes")
    @classmethod
    def _are_planes(cls, text: str) -> str:
        if not _names(text) or _names(text) - set(Plane):
            raise ValueError(f"{text!r} is not a list of the planes {', '.join(Plane)}")
        return text

    @field_validator("trusted_model_fields")
    @classmethod
    def _are_trusted_fields(cls, given: frozenset[str]) -> frozenset[str]:
        if unknown := given - set(TRUSTED_FIELDS):
            raise ValueError(
                f"{min(unknown)!r} is no trusted field; these are: {', '.join(TRUSTED_FIELDS)}"
            )
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        read_networks(text)
        return text

    @property
    def planes(self) -> frozenset[Plane]:
        """Planes that this process serves."""
        return frozenset(map(Plane, _names(self.gateway_planes)))

    @property
    def token_rules(self) -> TokenRules:
        """Requirements of a valid token."""
        return TokenRules(
            issuer=self.oidc_issuer,
            audience=self.oidc_audience,
            leeway=self.oidc_leeway_seconds,
            require_at_jwt=self.oidc_require_at_jwt,
            refused_claims=self.oidc_refused_claims,
            groups=GroupClaim(self.oidc_roles_claim, self.oidc_roles_prefix, self.oidc_roles),
        )

    @property
    def bounds(self) -> Bounds:
        """Bounds of the admission queue of a predictor."""
        return Bounds(self.predictor_concurrency, self.queue_length, self.queue_seconds)

    @property
    def limits(self) -> Limits:
        """Limits of a client connection."""
        return Limits(
            connections=self.connection_limit,
            head_bytes=self.head_limit,
            head_seconds=self.head_seconds,
            body_seconds=self.body_seconds,
            idle_seconds=self.idle_seconds,
            write_seconds=self.write_seconds,
        )


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
