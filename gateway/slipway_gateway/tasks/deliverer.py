"""Webhook delivery in slots of its own.

A slow receiver delays neither predictions nor the webhooks of other callers.
"""

import asyncio
import hashlib
import hmac
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson

from slipway_gateway.http.outbound import TIMEOUT, NotDelivered, Outbound, signed
from slipway_gateway.postgresql.database import DatabaseUnavailable
from slipway_gateway.tasks.deliveries import Deliveries, Delivery

log = logging.getLogger(__name__)

PER_HOST = 2
"""Maximum number of concurrent deliveries of a worker to one host."""
PER_CALLER = 2
"""Maximum number of concurrent deliveries of a worker for one caller."""
POLL_SECONDS = 0.5
AWAY_SECONDS = 5.0
LONGEST_BACKOFF = 600.0
ANSWER = 4 * 2**10
"""Maximum number of bytes to read of the response to a challenge."""


class Deliverer:
    """At-least-once delivery; each message has the same id at each attempt.

    ``attempts`` is the maximum number of attempts of a message, ``failures`` the number of
    consecutive failures that disables a webhook.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        outbound: Outbound,
        *,
        slots: int,
        attempts: int,
        failures: int,
    ) -> None:
        self._deliveries = deliveries
        self._outbound = outbound
        self._slots = slots
        self._attempts = attempts
        self._failures = failures
        self._running: dict[asyncio.Task[None], Delivery] = {}

    async def run(self) -> None:
        """Deliver until cancelled, then finish the running deliveries."""
        try:
            while True:
                try:
                    started = await self._start()
                except DatabaseUnavailable as error:
                    log.warning("webhooks wait, the database is unavailable: %s", error.cause)
                    await asyncio.sleep(AWAY_SECONDS)
                    continue
                if not started:
                    await self._wait()
        finally:
            if self._running:
                await asyncio.wait(self._running, timeout=TIMEOUT.total_seconds())

    async def _start(self) -> bool:
        """Start a delivery if a slot is free and one is due; return True when one was started.

        Raises DatabaseUnavailable.
        """
        if len(self._running) >= self._slots:
            return False
        hosts, callers = self._busy()
        delivery = await self._deliveries.claim(hosts, callers)
        if delivery is None:
            return False
        task = asyncio.create_task(self._deliver(delivery))
        self._running[task] = delivery
        task.add_done_callback(self._running.pop)
        return True

    def _busy(self) -> tuple[list[str], list[str]]:
        """Return the hosts and the callers that use their maximum number of slots."""
        hosts = Counter(each.host for each in self._running.values())
        callers = Counter(each.subject for each in self._running.values())
        busy_hosts = [host for host, count in hosts.items() if count >= PER_HOST]
        return busy_hosts, [caller for caller, count in callers.items() if count >= PER_CALLER]

    async def _wait(self) -> None:
        """Wait until a slot is free or for the polling interval."""
        if self._running:
            await asyncio.wait(
                self._running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        else:
            await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt; it is repeated when its result cannot be stored."""
        try:
            try:
                await self._send(delivery)
            except NotDelivered as error:
                await self._record_failure(delivery, str(error)[:500])
            else:
                await self._deliveries.succeed(delivery)
        except DatabaseUnavailable as error:
            log.warning(
                "a delivery of webhook %s is repeated, the database is unavailable: %s",
                delivery.webhook_id,
                error.cause,
            )
        except Exception:  # a task's edge: the delivery is claimed again when its lease ends
            log.exception("a delivery of webhook %s failed unexpectedly", delivery.webhook_id)

    async def _send(self, delivery: Delivery) -> None:
        """Send a challenge or an event. Raises NotDelivered."""
        body = _challenge(delivery) if delivery.task_id is None else _event(delivery)
        response = await self._outbound.post(
            delivery.url,
            body,
            signed(delivery.secret, delivery.message_id, body),
            read=ANSWER if delivery.task_id is None else 0,
        )
        if delivery.task_id is None and not _echoes(response, challenge(delivery)):
            raise NotDelivered(
                f"{delivery.host} does not answer the challenge; it must send data.challenge back"
            )

    async def _record_failure(self, delivery: Delivery, problem: str) -> None:
        """Store a failed attempt. Raises DatabaseUnavailable."""
        attempts = delivery.attempts + 1
        pause = timedelta(seconds=min(2.0**attempts, LONGEST_BACKOFF))
        again = pause if attempts < self._attempts else None
        if await self._deliveries.fail(delivery, problem, again=again, most=self._failures):
            log.warning("webhook %s is disabled: %s", delivery.webhook_id, problem)
        elif again is None:
            log.warning(
                "message %s for webhook %s is dropped after its last attempt: %s",
                delivery.message_id,
                delivery.webhook_id,
                problem,
            )


def challenge(delivery: Delivery) -> str:
    """Return the text that the URL must send back: an HMAC-SHA256 with the webhook's secret."""
    return hmac.new(
        delivery.secret, b"challenge " + delivery.webhook_id.encode(), hashlib.sha256
    ).hexdigest()


def _challenge(delivery: Delivery) -> bytes:
    data = {"webhookId": delivery.webhook_id, "challenge": challenge(delivery)}
    return orjson.dumps(
        {"type": "webhook.challenge", "timestamp": datetime.now(UTC).isoformat(), "data": data}
    )


def _echoes(response: bytes, expected: str) -> bool:
    """Return True for the bare challenge or JSON with it in the field ``challenge``."""
    try:
        content = orjson.loads(response)
    except orjson.JSONDecodeError:
        return response.strip() == expected.encode()
    found = content.get("challenge") if isinstance(content, dict) else content
    return bool(found == expected)


def _event(delivery: Delivery) -> bytes:
    data = {
        "taskId": delivery.task_id,
        "requestId": delivery.request_id,
        "model": delivery.model,
        "state": delivery.state,
        "status": delivery.status,
    }
    finished = (delivery.finished or datetime.now(UTC)).isoformat()
    return orjson.dumps({"type": f"task.{delivery.state}", "timestamp": finished, "data": data})
