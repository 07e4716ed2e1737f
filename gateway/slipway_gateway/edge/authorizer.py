"""Authorization after the access table: grant of the model, rates, quota and concurrency."""

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.rules import Rule, Spending
from slipway_gateway.inference.routing import Routes
from slipway_gateway.limits.concurrency import Concurrency
from slipway_gateway.limits.quotas import Quotas
from slipway_gateway.limits.rates import Rates

REQUESTS = ":requests"
"""Name of the bucket for other requests; policy names contain no colon."""


class Authorizer:
    """Authorizes requests in memory; only a new quota lease requires the database."""

    def __init__(
        self,
        grants: GrantWatch,
        routes: Routes,
        rates: Rates,
        quotas: Quotas,
        concurrency: Concurrency,
        *,
        predictions_per_minute: int,
        training_per_minute: int,
        feedback_per_minute: int,
        requests_per_minute: int,
    ) -> None:
        self._grants = grants
        self._routes = routes
        self._rates = rates
        self._quotas = quotas
        self._concurrency = concurrency
        self._predictions_per_minute = predictions_per_minute
        self._training_per_minute = training_per_minute
        self._feedback_per_minute = feedback_per_minute
        self._requests_per_minute = requests_per_minute

    async def admit(self, context: RequestContext, rule: Rule, model: str | None) -> None:
        """Authorize a request and store its grant, permit and headers in ``context``.

        The caller must call ``leave`` afterwards. Raises Forbidden, TooMany, TooManyAtOnce,
        Unavailable.
        """
        self._concurrency.enter(context.caller.subject)
        try:
            await self._spend(context, rule, model)
        except BaseException:
            self._concurrency.leave(context.caller.subject)
            raise

    async def _spend(self, context: RequestContext, rule: Rule, model: str | None) -> None:
        subject = context.caller.subject
        if rule.spends is Spending.REQUEST:
            context.headers = self._rates.take(
                (subject, REQUESTS), "requests", self._requests_per_minute
            )
        if model is not None:
            exists = model in self._routes.snapshot
            context.grant = self._grants.snapshot.get(
                context.caller, model, context.arrived, exists=exists
            )
        if rule.spends is Spending.TRAINING:
            context.headers = self._rates.take(
                (subject, ":training"), "training", self._training_per_minute
            )
        if rule.spends is Spending.FEEDBACK:
            context.headers = self._rates.take(
                (subject, ":feedback"), "feedback", self._feedback_per_minute
            )
        if rule.spends is not Spending.PREDICTION:
            return
        assert context.grant is not None  # noqa: S101  (a prediction path contains a model)
        policy = context.grant.policy
        rate = policy.predictions_per_minute or self._predictions_per_minute
        context.headers = self._rates.take((subject, policy.name), "predictions", rate)
        if policy.is_metered:
            context.permit = await self._quotas.take(subject, policy, context.arrived)

    def admit_anonymous(self, address: str) -> None:
        """Count an unauthenticated request on a public route. Raises TooMany."""
        self._rates.take((address, REQUESTS), "requests", self._requests_per_minute)

    def leave(self, context: RequestContext) -> None:
        """Release the concurrency and the unused permit at the end of an authorized request."""
        self._concurrency.leave(context.caller.subject)
        if context.permit is not None:
            context.permit.settle()
