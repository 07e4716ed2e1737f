"""Completion webhooks under ``/v1``: the gateway sends an event to a URL when a task ends."""

import base64
import secrets
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field
from sqlalchemy import Row

from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission
from slipway_gateway.errors import NotFound
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.requestid import new_id
from slipway_gateway.tasks.deliveries import Deliveries

SECRET_BYTES = 32


class WebhookRequest(RequestSchema):
    """The URL of a webhook."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/slipway"}]}
    )

    url: str = Field(
        max_length=2000, description="http or https; its host must have public addresses only"
    )


class Webhook(Schema):
    """A webhook and the state of its deliveries."""

    webhook_id: str
    url: str
    created: datetime | None = None
    delivered: datetime | None = Field(
        default=None, description="time of the last successful delivery"
    )
    failed: datetime | None = Field(default=None, description="time of the last failed delivery")
    problem: str | None = Field(default=None, description="reason of the last failure")
    verified: datetime | None = Field(
        default=None,
        description="time at which the URL answered the challenge; no event is sent before",
    )
    disabled: datetime | None = Field(
        default=None,
        description="time at which deliveries stopped; delete the webhook and create it again",
    )


class NewWebhook(Webhook):
    """A new webhook with its secret, which no later response contains."""

    secret: str = Field(
        description=(
            "`whsec_` and Base64: key of the HMAC-SHA256 in `webhook-signature` (Standard Webhooks)"
        )
    )


class WebhookList(Schema):
    """Webhooks, oldest first."""

    webhooks: list[Webhook]


class Webhooks:
    """The webhook routes."""

    def __init__(self, deliveries: Deliveries, outbound: Outbound) -> None:
        self._deliveries = deliveries
        self._outbound = outbound

    def router(self) -> Router:
        router = Router(prefix="/v1/webhooks", responses=PROBLEMS, tags=["webhooks"])
        own = Permission("tasks", ALL)
        router.add(
            "POST",
            self.create_webhook,
            own,
            status_code=201,
            summary="Create a webhook for the end of your tasks",
        )
        router.add("GET", self.list_webhooks, own, summary="List your webhooks")
        router.add(
            "DELETE /{webhook_id}",
            self.delete_webhook,
            own,
            status_code=204,
            summary="Delete a webhook",
        )
        return router

    async def create_webhook(self, body: WebhookRequest, context: CurrentContext) -> NewWebhook:
        destination = await self._outbound.check("url", body.url)
        webhook_id, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
        await self._deliveries.subscribe(
            webhook_id, context.caller.subject, url=body.url, host=destination.host, secret=secret
        )
        return NewWebhook(
            webhook_id=webhook_id, url=body.url, secret="whsec_" + base64.b64encode(secret).decode()
        )

    async def list_webhooks(self, context: CurrentContext) -> WebhookList:
        found = await self._deliveries.subscriptions(context.caller.subject)
        return WebhookList(webhooks=[_described(row) for row in found])

    async def delete_webhook(self, webhook_id: str, context: CurrentContext) -> None:
        if not await self._deliveries.unsubscribe(
            context.caller.subject, webhook_id.replace("\0", "")
        ):
            raise NotFound(f"webhook {webhook_id} does not exist")


def _described(row: Row[Any]) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        url=row.url,
        created=row.created,
        delivered=row.delivered,
        failed=row.failed,
        problem=row.problem,
        verified=row.verified,
        disabled=row.disabled,
    )
