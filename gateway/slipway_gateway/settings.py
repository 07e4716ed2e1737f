"""What the gateway is told by its environment."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from slipway_contract.body import VALUES

from slipway_gateway.http.addresses import read_networks
from slipway_gateway.http.connection import Limits
from slipway_gateway.identity.groups import GroupClaim
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import TokenRules
from slipway_gateway.inference.admission_queue import Bounds


class Settings(BaseSettings):
    """Environment variables with the prefix ``SLIPWAY_``, for example ``SLIPWAY_DATABASE_URL``."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_", use_attribute_docstrings=True, frozen=True
    )

    cluster: str
    """Where the Models are: ``local:///folder`` or ``kubernetes://NAMESPACE``."""

    database_url: SecretStr
    """PostgreSQL of the event log, ``postgresql://user:password@host/database``."""

    database_seconds: float = Field(default=20, gt=0, le=300)
    """Time that PostgreSQL has for a statement; a transaction has three times as long. Then the
    connection is closed, and the request is answered 503 or the work is tried again by a new
    connection.
    """

    oidc_issuer: str
    """The issuer of access tokens, exactly as it stands in their ``iss`` claim."""

    oidc_discovery_url: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL at which the issuer's discovery document and keys are fetched when the issuer's own,
    public one cannot be reached from here. The document, and ``iss``, must name
    ``SLIPWAY_OIDC_ISSUER`` all the same.
    """

    oidc_audience: str
    """What must stand in a token's ``aud`` claim: a name for this API, not the id of an OAuth
    client, because that is what the client's ID tokens have.
    """

    oidc_require_at_jwt: bool = False
    """Whether tokens must have the type ``at+jwt`` (RFC 9068), as those of the bundled issuer do.
    Set it where the issuer's have it.
    """

    oidc_refused_claims: frozenset[str] = frozenset({"at_hash", "c_hash", "nonce"})
    """Claims that only ID tokens of the issuer have, as a JSON list: a token with one of them is
    refused, unless its type is ``at+jwt``. Keycloak before 24 writes ``nonce`` into access tokens:
    leave it out there.
    """

    oidc_roles_claim: str = Field(default="groups", min_length=1)
    """The claim that has a caller's groups, as a list or as a single text: its name, or a path with
    dots such as ``realm_access.roles``.
    """

    oidc_roles_prefix: str = ""
    """What groups begin with, for example ``/``: it is removed, and groups without it are
    ignored.
    """

    oidc_roles: dict[str, Literal[Role.USER, Role.SCIENTIST, Role.ADMIN]] = {}
    """Which group (without the prefix) gives which role, as a JSON object: ``{"ml-platform":
    "admin"}``. Empty: the groups ``user``, ``scientist`` and ``admin`` give the roles of their
    names. Otherwise no other group gives one.
    """

    docs_client: str = Field(default="slipway", min_length=1)
    """Public OAuth client that the page ``/v1/docs`` logs in as. The issuer must know
    ``…/v1/docs/login`` as a redirect URI of it, and its access tokens must have the audience
    SLIPWAY_OIDC_AUDIENCE.
    """

    oidc_leeway_seconds: int = Field(default=30, ge=0, le=300)
    """How far the issuer's clock may be from ours."""

    oidc_refresh_seconds: float = Field(default=300, gt=0)
    """Age at which the issuer's keys are fetched again; the old ones stay in use while the issuer
    is away.
    """

    oidc_refetch_seconds: float = Field(default=10, ge=0)
    """Shortest time between two fetches that tokens with an unknown key can cause."""

    scim_url: str | None = Field(default=None, pattern=r"^https?://.*[^/]$")
    """Base URL of the issuer's SCIM 2.0 service, as the world sees it, for example
    ``https://login.example.org/scim/v2``: users and groups are managed there, and who is disabled
    or deleted there is refused here. Its ``userName`` must be the ``sub`` of tokens. None:
    ``/v1/users`` and ``/v1/groups`` are not there, and a token is good until it expires.
    """

    scim_client_id: str | None = None
    """The gateway's own client at the issuer, for SCIM (client credentials)."""

    scim_client_secret: SecretStr | None = Field(default=None, min_length=16)
    """Secret of that client."""

    users_seconds: float = Field(default=60, gt=0, le=240)
    """Time between two looks at all users: after that long, and the time that the look takes, a
    disabled one is refused.
    """

    deprovisioned_seconds: float = Field(default=900, gt=0)
    """Time for which an account must be missing at the issuer before its name is taken out of the
    log, as if its owner had left here; it is looked for three times meanwhile.
    """

    gateway_host: str = "127.0.0.1"
    """Address to listen on, for requests and for metrics."""

    gateway_port: int = Field(default=8080, ge=0, le=65535)
    """Port of ``/v1``, ``/v2``, ``/livez`` and ``/readyz``."""

    gateway_metrics_port: int = Field(default=9090, ge=0, le=65535)
    """Port of ``/metrics``, apart so that it need not be reachable for users."""

    drain_seconds: float = Field(default=0, ge=0)
    """Time between SIGTERM, when readiness goes false, and the moment when no more connections are
    taken: for load balancers to look elsewhere. Meanwhile every answer asks its caller to leave the
    connection.
    """

    body_limit: int = Field(default=16 * 2**20, gt=0)
    """Largest request body in bytes; a larger one is answered 413."""

    value_limit: int = Field(default=VALUES, gt=0)
    """Values of one prediction request, rows × columns; more are answered 413 with the advice to
    send a batch. The larger it is, the longer other requests wait for one: some ten milliseconds by
    default. Predictors have a limit of their own, ``SLIPWAY_SERVING_VALUE_LIMIT``.
    """

    body_budget: int = Field(default=64 * 2**20, gt=0)
    """Bytes of request bodies that are in memory at a time, of all callers; beyond it 503. Bodies
    of more than 64 KiB get three quarters of it, so that the large ones never shut out the small
    ones.
    """

    body_budget_per_caller: int = Field(default=32 * 2**20, gt=0)
    """Bytes of them that one caller may have; beyond it 429. What a request declares as its length
    counts before it is read.
    """

    concurrency_per_caller: int = Field(default=64, gt=0)
    """Requests of one caller that are under way at a time, at this gateway; beyond it 429."""

    image_limit: int = Field(default=10 * 2**20, gt=0)
    """Largest uploaded image in bytes; a larger one is answered 413. All of a request also has to
    keep SLIPWAY_BODY_LIMIT.
    """

    image_pixels: int = Field(default=40_000_000, gt=0)
    """Pixels that an image may have; more are answered 422 before any is unpacked."""

    image_seconds: int = Field(default=10, gt=0)
    """Time, of the clock and of the processor, in which the images of a request must be read;
    then 422.
    """

    image_days: int = Field(default=30, ge=0)
    """Days for which uploaded images are kept in PostgreSQL, each once; with 0 none is."""

    storage_per_caller: int = Field(default=2**30, gt=0)
    """Bytes that one caller may store in PostgreSQL: images, tasks, batches with their results,
    and feedback. Beyond it requests that store more are answered 429.
    """

    storage_limit: int = Field(default=4 * 2**30, gt=0)
    """Bytes that all callers together may store there; beyond it 507. Choose it well below the
    volume of the database, which holds the event log as well.
    """

    predictor_token: SecretStr | None = Field(default=None, min_length=16)
    """What predictors ask their callers for: their ``SLIPWAY_SERVING_TOKEN``."""

    cache_limit: int = Field(default=32 * 2**20, ge=0)
    """Bytes of answers that are kept for callers whose policy has ``cacheSeconds``."""

    redis_url: SecretStr | None = None
    """Redis or Valkey by which replicas share those answers: ``redis://host:6379/0``,
    ``rediss://…`` with TLS, or ``unix:///path``. None: each replica has its own.
    """

    redis_password: SecretStr | None = Field(default=None, min_length=16)
    """Its password, where the URL has none."""

    redis_seconds: float = Field(default=0.1, gt=0, le=5)
    """Time that it has for an answer; then it is left alone for a while."""

    redis_rest_seconds: float = Field(default=5, gt=0)
    """Time for which it is left alone after it failed; meanwhile each replica has its own
    answers.
    """

    predictions_per_minute: int = Field(default=180, ge=1, le=10**7)
    """Predictions of one caller by one policy, where the policy does not say otherwise."""

    training_per_minute: int = Field(default=5, ge=1, le=10**7)
    """Trainings and promotions that one caller may begin."""

    feedback_per_minute: int = Field(default=180, ge=1, le=10**7)
    """Labels and comments that one caller may give."""

    jobs_per_caller: int = Field(default=10, ge=1)
    """Trainings, promotions and batches that one caller may have under way; beyond it 429."""

    requests_per_minute: int = Field(default=3000, ge=1, le=10**7)
    """Requests of one caller to all other routes together; of one address where no token is asked
    for. Probes have no rate.
    """

    refused_per_minute: int | None = Field(default=None, ge=1, le=10**7)
    """Bad tokens from one address; beyond it no token that is not known yet is looked at. Without
    it there is no such limit: it must not be set where all callers seem to come from one address,
    behind a proxy that is not trusted or translated.
    """

    trusted_proxies: str = ""
    """Networks of the proxies in front, as ``10.0.0.0/8, fd00::/8``: what they write into
    ``X-Forwarded-For`` is believed.
    """

    upstream_timeout_seconds: float = Field(default=30, gt=0)
    """Time a predictor has for an answer, connection included; then 504."""

    upstream_connect_seconds: float = Field(default=2, gt=0)
    """Time a connection to a predictor may take; then one more try at another of its pods, then
    503.
    """

    predictor_concurrency: int = Field(default=64, gt=0)
    """Requests that this gateway has under way at one pod of a predictor: enough to keep a pod
    busy, more would only wait there, where nobody sees it.
    """

    queue_length: int = Field(default=256, ge=0)
    """Requests that wait for their turn, for each version of a model; beyond it they are refused
    with 503 at once. A burst passes; what waits takes up to SLIPWAY_LOG_BODY_LIMIT of memory each.
    """

    queue_seconds: float = Field(default=1, gt=0)
    """Time that a request waits for its turn; then 503. A caller is better served by a second try
    than by a late answer.
    """

    connection_limit: int = Field(default=4096, gt=0)
    """Connections that callers may have open; further ones are answered 503 and closed. Each takes
    some 20 KiB.
    """

    head_limit: int = Field(default=32 * 2**10, ge=2**12)
    """Bytes of a request in front of its body, tokens with many groups included; more is answered
    431.
    """

    head_seconds: float = Field(default=10, gt=0)
    """Time in which a new connection, or the first byte of a request, must be followed by all of
    its headers; then 408.
    """

    body_seconds: float = Field(default=60, gt=0)
    """Time from the headers to the end of the body; then 408. 16 MiB in a minute is 2.2 Mbit/s."""

    idle_seconds: float = Field(default=75, gt=0)
    """Time for which a connection without a request is kept: longer than load balancers keep
    theirs, so that it is never us who close first.
    """

    write_seconds: float = Field(default=30, gt=0)
    """Time for which a caller may not take what is written to it; then its connection is closed."""

    grace_seconds: float = Field(default=120, gt=0)
    """Time between SIGTERM and SIGKILL, a pod's ``terminationGracePeriodSeconds``. What the drain
    and the requests under way leave of it, less 12 seconds, is for shipping the events in the spool
    to PostgreSQL; a gateway whose spool is empty ends at once.
    """

    spool: Path = Path(".slipway/spool")
    """Folder where events wait for PostgreSQL. It must outlive the process: a persistent volume or
    an emptyDir.
    """

    spool_limit: int = Field(default=2**30, gt=0)
    """Bytes that may wait there. Beyond it predictions are refused with 503, because an answer that
    cannot be logged is not given.
    """

    ship_seconds: float = Field(default=0.5, gt=0)
    """Time between two shipments of events to PostgreSQL."""

    log_body_limit: int = Field(default=64 * 2**10, ge=0)
    """Bytes of a request and of a response that the log keeps; a longer body is logged as null."""

    promotion_template: str = Field(default="promote", min_length=1)
    """The suspended CronJob that promotions are made from."""

    task_body_limit: int = Field(default=2**20, gt=0)
    """Largest body in bytes of a prediction that is answered later: it is kept in PostgreSQL."""

    tasks_per_caller: int = Field(default=1000, gt=0)
    """Unfinished tasks that a caller may have; beyond it 429."""

    task_attempts: int = Field(default=8, ge=1)
    """Attempts of a task whose model cannot be reached or is not ready; then it is dead."""

    task_backoff_seconds: float = Field(default=1, gt=0)
    """Time before the second attempt; it doubles with each, up to five minutes."""

    task_keep_seconds: float = Field(default=86400, gt=0)
    """Time that a task and its answer are kept after its end."""

    task_concurrency: int = Field(default=8, ge=1, le=100)
    """Tasks that a worker answers at once."""

    task_heartbeat_seconds: float = Field(default=5, gt=0)
    """Time between two signs of life of a worker. After three without one, its tasks are given to
    others.
    """

    webhook_hosts: frozenset[str] = frozenset()
    """Names of hosts to which completion webhooks may go although their addresses are not public,
    as a JSON list. All others must be public.
    """

    webhook_attempts: int = Field(default=8, ge=1)
    """Attempts to deliver a message to a webhook, 2, 4, 8 … seconds apart, up to ten minutes."""

    webhook_failures: int = Field(default=24, ge=1)
    """Failed attempts in a row after which a webhook is disabled. From the fifth on, all its
    messages pause for 2, 4, 8 … seconds, up to ten minutes: by default it is given up after some
    two hours.
    """

    webhook_concurrency: int = Field(default=8, ge=1, le=100)
    """Deliveries of a worker at the same time, besides the tasks that it answers; at most two of
    them go to one host, and two are of one caller.
    """

    batch_template: str = Field(default="batch", min_length=1)
    """The suspended CronJob that batches are predicted by."""

    batch_limit: int = Field(default=64 * 2**20, gt=0)
    """Largest file of a batch in bytes; a larger one is answered 413."""

    batch_rows: int = Field(default=5_000_000, gt=0)
    """Most rows of a batch; a file with more is answered 422. Those of a Parquet file are read from
    its footer.
    """

    batch_hosts: frozenset[str] = frozenset()
    """Names of hosts from which a batch's file may be fetched by https, as a JSON list; none by
    default.
    """

    batch_keep_seconds: float = Field(default=7 * 86400, gt=0)
    """Time that a batch's file and result are kept after the upload."""

    watch_seconds: float = Field(default=30, gt=0)
    """Time after which Models, EndpointSlices and grants are read anew in full, whatever was or was
    not told of a change.
    """

    @model_validator(mode="after")
    def _scim_is_whole(self) -> Self:
        if self.scim_url and not (self.scim_client_id and self.scim_client_secret):
            raise ValueError(
                "SLIPWAY_SCIM_URL needs SLIPWAY_SCIM_CLIENT_ID and SLIPWAY_SCIM_CLIENT_SECRET"
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
                "SLIPWAY_BODY_LIMIT is more than SLIPWAY_BODY_BUDGET_PER_CALLER or three "
                "quarters of SLIPWAY_BODY_BUDGET,"
                " so a body of that size would never be taken; lower it, or raise these"
            )
        return self

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        read_networks(text)
        return text

    @property
    def token_rules(self) -> TokenRules:
        """What is asked of tokens."""
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
        """Of the line before a predictor."""
        return Bounds(self.predictor_concurrency, self.queue_length, self.queue_seconds)

    @property
    def limits(self) -> Limits:
        """Of a caller's connection."""
        return Limits(
            connections=self.connection_limit,
            head_bytes=self.head_limit,
            head_seconds=self.head_seconds,
            body_seconds=self.body_seconds,
            idle_seconds=self.idle_seconds,
            write_seconds=self.write_seconds,
        )
