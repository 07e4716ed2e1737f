"""Promotions under ``/v1``: Jobs that evaluate a version at the gate and move a Model's alias."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from slipway_cluster.interface import Manifest
from slipway_contract.errors import InvalidInput
from slipway_contract.model import Gate, RoutedSpec

from slipway_gateway.access.audit import Audit
from slipway_gateway.control.job_routes import JobOrder, JobRoutes, ModelJob
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.submission import JobState, Submissions, asked_for

BEST = "best"


class PromotionRequest(RequestSchema):
    """The version to promote and the condition of the gate."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"version": "3", "dryRun": True}]}
    )

    version: str = Field(
        pattern=rf"^([1-9][0-9]{{0,8}}|{BEST})$",
        description="registry version, or `best`: the best one by `metric`",
    )
    dry_run: bool = Field(default=False, description="evaluate the gate without moving the alias")
    rollback: bool = Field(
        default=False,
        description="skip the gate; requires a reason and is recorded in the audit record",
    )
    metric: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="metric; null: that of the Model's gate",
    )
    direction: Literal["max", "min"] | None = Field(
        default=None, description="direction in which the metric improves"
    )
    min_gain: float | None = Field(
        default=None,
        ge=-1e9,
        le=1e9,
        allow_inf_nan=False,
        description=(
            "gain that the metric must exceed with 95 % confidence; null: that of the Model's "
            "gate. A promotion with another rule than the gate's must be a dry run"
        ),
    )
    reason: str = Field(
        default="",
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="reason for the audit record",
    )

    @model_validator(mode="after")
    def _is_explained(self) -> Self:
        if self.rollback and not self.reason:
            raise ValueError("rollback skips the gate and requires a reason")
        if self.rollback and self.version == BEST:
            raise ValueError("rollback needs a version number; the best one has to pass the gate")
        return self

    def arguments(self, spec: RoutedSpec) -> Iterator[str]:
        """Yield the arguments of ``python -m slipway_jobs promote``.

        The form ``--option=value`` prevents that a caller's text is parsed as an option. Raises
        InvalidInput for a rule that is not the Model's, unless the promotion is a dry run.
        """
        gate = spec.gate
        by = self.metric or gate.metric
        if self.version == BEST and by is None:
            raise InvalidInput("metric", "best needs one; send it, or set spec.gate.metric")
        # A metric that chooses the version does not replace that of the gate.
        chooses = self.version == BEST
        metric = gate.metric if self.metric is None or chooses else self.metric
        min_gain = gate.min_gain if self.min_gain is None else self.min_gain
        if not (self.dry_run or self.rollback):
            self._check_rule(gate, metric, min_gain)
        yield from (spec.registered_model, self.version)
        yield from (f"--alias={spec.alias}", f"--min-gain={min_gain!r}", f"--reason={self.reason}")
        yield from (["--dry-run"] if self.dry_run else []) + (
            ["--rollback"] if self.rollback else []
        )
        yield from [f"--by={by}"] if self.version == BEST else []
        yield from [f"--metric={metric}"] if metric else []
        yield from [f"--direction={self.direction}"] if self.direction else []

    def _check_rule(self, gate: Gate, metric: str | None, min_gain: float) -> None:
        remedy = "set dryRun to compare by another rule"
        if metric != gate.metric:
            used = gate.metric or "the first one of the evaluation"
            raise InvalidInput("metric", f"the gate of the Model uses {used}; {remedy}")
        if self.direction is not None:
            raise InvalidInput("direction", f"the gate of the Model uses the metric's; {remedy}")
        if min_gain < gate.min_gain:
            raise InvalidInput(
                "minGain", f"the gate of the Model requires at least {gate.min_gain:g}; {remedy}"
            )


class Promotion(ModelJob):
    """A promotion Job, available until the cluster deletes it."""

    promotion_id: str = Field(description="name of the Job")
    state: JobState = Field(
        description="state of the Job; the result of the gate is in `result.state`"
    )
    request: PromotionRequest
    result: dict[str, Any] | None = Field(
        description=(
            "output of the Job; `state` is promoted, unchanged, passed (a dry run), refused "
            "(a worse version), undecided (not distinguishable) or failed"
        )
    )


class PromotionList(Schema):
    """Promotions, newest first."""

    promotions: list[Promotion]


class Promotions(JobRoutes[PromotionRequest]):
    """The promotion routes; ``template`` names the suspended CronJob with the Job template."""

    purpose = "promotion"
    permission = "promote"
    request = PromotionRequest
    answer = Promotion
    listing = PromotionList
    list_summary = "List promotions"
    creates_with_result = True

    def __init__(
        self, routes: Routes, submissions: Submissions, audit: Audit, template: str
    ) -> None:
        super().__init__(routes, submissions, audit)
        self._template = template

    async def order(self, model: str, body: PromotionRequest) -> JobOrder:
        spec = self.routes.get(model).model.spec
        args = list(body.arguments(spec))
        content = body.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return JobOrder(self._template, args, content)

    async def listed(self, model: str, found: list[Manifest]) -> PromotionList:
        results = [await self.submissions.result(job) for job in found]
        promotions = [self.described(model, *each) for each in zip(found, results, strict=True)]
        return PromotionList(promotions=promotions)

    def described(self, model: str, job: Manifest, result: dict[str, Any] | None) -> Promotion:
        # A gateway of a later release may have added fields.
        request = PromotionRequest.model_validate(asked_for(job), extra="ignore")
        name = job["metadata"]["name"]
        return Promotion(
            promotion_id=name, request=request, result=result, **self.fields(model, job)
        )
