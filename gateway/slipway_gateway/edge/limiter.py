"""The limits of a request: concurrency, rates, the quota of the caller, and memory for its body."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.rules import Rule, Spending
from slipway_gateway.errors import Headers
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.http.body import declared_length
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.limits.concurrency import Concurrency
from slipway_gateway.limits.policy import Policy
from slipway_gateway.limits.quotas import Quotas
from slipway_gateway.limits.rates import Rates

REQUESTS = ":requests"
"""Name of the bucket for requests without a kind of their own; policy names contain no colon."""


@dataclass(frozen=True)
class RateLimits:
    """Requests of one caller in a minute, by the kind of the request."""

    predictions: int
    """Predictions, if the policy has no rate."""
    training: int
    feedback: int
    requests: int
    """Requests of all other kinds together."""


class Limiter:
    """Limits requests in memory; only a new quota lease requires the database.

    It owns what a request reserves, and releases it at the end of the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        rates: Rates,
        quotas: Quotas,
        concurrency: Concurrency,
        bodies: BodyBudget,
        proxies: Networks,
        *,
        per_minute: RateLimits,
    ) -> None:
        self._app = app
        self._rates = rates
        self._quotas = quotas
        self._concurrency = concurrency
        self._bodies = bodies
        self._proxies = proxies
        self._per_minute = per_minute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["slipway.exchange"]
        context, rule, headers = exchange.context, exchange.rule, exchange.headers
        subject = None if context is None else context.caller.subject
        share = self._bodies.share(subject, declared_length(headers))
        if subject is not None:
            self._concurrency.enter(subject)
        elif rule.spends is not None:
            address = client_address(scope, headers, self._proxies)
            self._rates.take((address, REQUESTS), "requests", self._per_minute.requests)
        exchange.share = share
        try:
            if context is not None:
                fields, policy = self._take(context, rule)
                if policy is not None:
                    async with await self._quotas.take(
                        context.caller.subject, policy, context.arrived
                    ) as permit:
                        context.permit, context.headers = permit, fields
                        await self._app(scope, receive, send)
                    return
                context.headers = fields
            await self._app(scope, receive, send)
        finally:
            share.release()
            if subject is not None:
                self._concurrency.leave(subject)

    def _take(self, context: RequestContext, rule: Rule) -> tuple[Headers, Policy | None]:
        """Count the request; return the RateLimit fields, and the policy if it has a quota.

        Raises TooMany.
        """
        subject, limits = context.caller.subject, self._per_minute
        match rule.spends:
            case Spending.PREDICTION:
                assert context.grant is not None  # noqa: S101  (the path contains a model)
                policy = context.grant.policy
                rate = policy.predictions_per_minute or limits.predictions
                fields = self._rates.take((subject, policy.name), "predictions", rate)
                return fields, policy if policy.is_metered else None
            case Spending.TRAINING:
                return self._rates.take((subject, ":training"), "training", limits.training), None
            case Spending.FEEDBACK:
                return self._rates.take((subject, ":feedback"), "feedback", limits.feedback), None
        return self._rates.take((subject, REQUESTS), "requests", limits.requests), None
