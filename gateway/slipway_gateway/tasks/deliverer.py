"""Sends what waits for webhooks, in slots of its own: a slow receiver delays no prediction, and no
other caller's webhooks.
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
"""Deliveries of one worker to one host at the same time."""
PER_CALLER = 2
"""Deliveries of one worker for one caller at the same time."""
POLL_SECONDS = 0.5
AWAY_SECONDS = 5.0
LONGEST_BACKOFF = 600.0
ANSWER = 4 * 2**10
"""Bytes of an answer to the challenge that are read."""


class Deliverer:
    """Each message at least once, always with the same id. ``attempts`` are of a message,
    ``failures`` of a webhook in a row.
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
        """Until it is cancelled; then what is under way is finished."""
        try:
            while True:
                try:
                    started = await self._start()
                except DatabaseUnavailable as error:
                    log.warning("webhooks wait, the database is away: %s", error.cause)
                    await asyncio.sleep(AWAY_SECONDS)
                    continue
                if not started:
                    await self._wait()
        finally:
            if self._running:
                await asyncio.wait(self._running, timeout=TIMEOUT.total_seconds())

    async def _start(self) -> bool:
        """Whether there was a free slot, and a delivery for it. Raises DatabaseUnavailable."""
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
        """Hosts and callers that have as many slots as one of them may."""
        hosts = Counter(each.host for each in self._running.values())
        callers = Counter(each.subject for each in self._running.values())
        return [each for each, n in hosts.items() if n >= PER_HOST], [
            each for each, n in callers.items() if n >= PER_CALLER
        ]

    async def _wait(self) -> None:
        """Until a slot is free, or it is worth to look again."""
        if self._running:
            await asyncio.wait(
                self._running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        else:
            await asyncio.sleep(POLL_SECONDS)

    async def _deliver(self, delivery: Delivery) -> None:
        """One attempt. While the database is away its end is not noted, and it is repeated."""
        try:
            try:
                await self._send(delivery)
            except NotDelivered as error:
                await self._note_failure(delivery, str(error)[:500])
            else:
                await self._deliveries.succeed(delivery)
        except DatabaseUnavailable as error:
            log.warning(
                "a delivery of webhook %s is repeated, the database is away: %s",
                delivery.webhook_id,
                error.cause,
            )
        except Exception:  # a task's edge: the delivery is claimed again when its lease ends
            log.exception("a delivery of webhook %s broke", delivery.webhook_id)

    async def _send(self, delivery: Delivery) -> None:
        """Raises NotDelivered."""
        body = _challenge(delivery) if delivery.task_id is None else _notice(delivery)
        answer = await self._outbound.post(
            delivery.url,
            body,
            signed(delivery.secret, delivery.message_id, body),
            read=ANSWER if delivery.task_id is None else 0,
        )
        if delivery.task_id is None and not _echoes(answer, challenge(delivery)):
            raise NotDelivered(
                f"{delivery.host} does not answer the challenge; it must send data.challenge back"
            )

    async def _note_failure(self, delivery: Delivery, problem: str) -> None:
        """Raises DatabaseUnavailable."""
        attempts = delivery.attempts + 1
        pause = timedelta(seconds=min(2.0**attempts, LONGEST_BACKOFF))
        again = pause if attempts < self._attempts else None
        if await self._deliveries.fail(delivery, problem, again=again, most=self._failures):
            log.warning("webhook %s is disabled: %s", delivery.webhook_id, problem)
        elif again is None:
            log.warning(
                "message %s for webhook %s was given up: %s",
                delivery.message_id,
                delivery.webhook_id,
                problem,
            )


def challenge(delivery: Delivery) -> str:
    """What the URL must send back: the same at each attempt, and nobody guesses it without the
    webhook's secret.
    """
    return hmac.new(
        delivery.secret, b"challenge " + delivery.webhook_id.encode(), hashlib.sha256
    ).hexdigest()


def _challenge(delivery: Delivery) -> bytes:
    data = {"webhookId": delivery.webhook_id, "challenge": challenge(delivery)}
    return orjson.dumps(
        {"type": "webhook.challenge", "timestamp": datetime.now(UTC).isoformat(), "data": data}
    )


def _echoes(answer: bytes, wanted: str) -> bool:
    """The challenge alone, or JSON with the field ``challenge``."""
    try:
        content = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return answer.strip() == wanted.encode()
    return content == wanted or (isinstance(content, dict) and content.get("challenge") == wanted)


def _notice(delivery: Delivery) -> bytes:
    data = {
        "taskId": delivery.task_id,
        "requestId": delivery.request_id,
        "model": delivery.model,
        "state": delivery.state,
        "status": delivery.status,
    }
    finished = (delivery.finished or datetime.now(UTC)).isoformat()
    return orjson.dumps({"type": f"task.{delivery.state}", "timestamp": finished, "data": data})
