"""Completion webhooks under ``/v1``: a caller names a URL, and hears there of the end of each task
of theirs.
"""

import base64
import secrets
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from sqlalchemy import Row

from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.errors import NotFound
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.requestid import new_id
from slipway_gateway.tasks.deliveries import Deliveries

SECRET_BYTES = 32


class WebhookRequest(RequestSchema):
    """Where to."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/slipway"}]}
    )

    url: str = Field(
        max_length=2000, description="http or https; its host must have public addresses only"
    )


class Webhook(Schema):
    """A subscription."""

    webhook_id: str
    url: str
    created: datetime | None = None
    delivered: datetime | None = Field(default=None, description="the last good delivery")
    failed: datetime | None = Field(default=None, description="the last one that failed")
    problem: str | None = Field(default=None, description="why it failed")
    verified: datetime | None = Field(
        default=None, description="when the URL answered the challenge; nothing else is sent before"
    )
    disabled: datetime | None = Field(
        default=None, description="when it was given up; delete it, and register the URL again"
    )


class NewWebhook(Webhook):
    """With its secret, which is shown this once."""

    secret: str = Field(
        description=(
            "`whsec_` and Base64: key of the HMAC-SHA256 in `webhook-signature` (Standard Webhooks)"
        )
    )


class WebhookList(Schema):
    """The oldest first."""

    webhooks: list[Webhook]


class Webhooks:
    """The routes."""

    def __init__(self, deliveries: Deliveries, outbound: Outbound) -> None:
        self._deliveries = deliveries
        self._outbound = outbound

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/webhooks", responses=PROBLEMS, tags=["tasks"])
        router.post("", status_code=201, summary="Be told when tasks end")(self.subscribe)
        router.get("", summary="Your webhooks")(self.list)
        router.delete("/{webhook_id}", status_code=204, summary="Be told no more")(self.unsubscribe)
        return router

    async def subscribe(self, asked: WebhookRequest, context: CurrentCall) -> NewWebhook:
        place = await self._outbound.check("url", asked.url)
        webhook_id, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
        await self._deliveries.subscribe(
            webhook_id, context.caller.subject, url=asked.url, host=place.host, secret=secret
        )
        return NewWebhook(
            webhook_id=webhook_id,
            url=asked.url,
            secret="whsec_" + base64.b64encode(secret).decode(),
        )

    async def list(self, context: CurrentCall) -> WebhookList:
        found = await self._deliveries.subscriptions(context.caller.subject)
        return WebhookList(webhooks=[_described(row) for row in found])

    async def unsubscribe(self, webhook_id: str, context: CurrentCall) -> None:
        if not await self._deliveries.unsubscribe(
            context.caller.subject, webhook_id.replace("\0", "")
        ):
            raise NotFound(f"there is no webhook {webhook_id}")


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
