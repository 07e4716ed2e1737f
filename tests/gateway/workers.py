"""Worker processes, and a receiver of webhooks."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any, Self

import psycopg

from tests.gateway.environment import Environment, variables
from tests.support.asgi_server import AsgiServer
from tests.support.processes import free_port
from tests.support.waiting import SECONDS, wait_for

QUICK: dict[str, Any] = {
    "task_heartbeat_seconds": 0.3,
    "task_backoff_seconds": 0.05,
    "task_attempts": 3,
    "webhook_attempts": 3,
}


class Workers:
    """Several processes of ``python -m slipway_gateway work``."""

    def __init__(self, environment: Environment, count: int = 1, **changed: Any) -> None:
        self._environment = environment
        self._changed = {**QUICK, **changed}
        self.log = environment.folder / "workers.log"
        self._running: list[subprocess.Popen[bytes]] = []
        self.count = count
        self._before = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        settings = self._environment.settings(
            gateway_metrics_port=0,
            spool=self._environment.folder / f"spool-of-worker-{free_port()}",
            **self._changed,
        )
        given = variables(settings, self._environment.database_url)
        command = [sys.executable, "-W", "error", "-m", "slipway_gateway", "work"]
        self._before = self._registered()
        with self.log.open("ab") as log:
            self._running = [
                subprocess.Popen(command, env={**os.environ, **given}, stderr=log)
                for _ in range(self.count)
            ]

    def kill(self) -> None:
        """Send SIGKILL to all of them."""
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()

    def ended(self) -> bool:
        """Return True when none of them runs."""
        return all(process.poll() is not None for process in self._running)

    def stop(self) -> list[int]:
        """Send SIGTERM when all of them have started; return their exit statuses."""
        wait_for("all workers to start", lambda: self._registered() == self._before + self.count)
        for process in self._running:
            process.terminate()
        return [process.wait(SECONDS) for process in self._running]

    def _registered(self) -> int:
        """Return the number of workers that have ever registered with the queue."""
        with psycopg.connect(self._environment.database_url) as connection:
            row = connection.execute(
                "SELECT coalesce(max(id), 0) FROM procrastinate_workers"
            ).fetchone()
        assert row
        return int(row[0])


class Receiver:
    """A receiver of webhooks with configurable responses."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.challenged: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        """Response statuses in order; afterwards 204."""
        self.answers_challenges = True
        self.seconds = 0.0
        """Delay of each response except the one to the challenge."""
        self.under_way = self.most_under_way = 0
        self._stack = ExitStack()
        self.server = AsgiServer(self._answer)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.server)
        return self

    def __exit__(self, *arguments: object) -> None:
        self._stack.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        message = json.loads(body)
        if message["type"] == "webhook.challenge" and self.answers_challenges:
            self.challenged.append((headers, body))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send(
                {
                    "type": "http.response.body",
                    "body": json.dumps({"challenge": message["data"]["challenge"]}).encode(),
                }
            )
            return
        self.taken.append((headers, body))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        status = self.statuses.pop(0) if self.statuses else 204
        more = [(b"location", f"{self.server.url}/elsewhere".encode())] if status == 302 else []
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": b""})


def is_signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """Verify a signature by the specification, independently of the gateway's code."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == f"v1,{expected}"
