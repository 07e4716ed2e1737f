"""A constant stream of predictions, limited in rate and time."""

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.waiting import SECONDS


@dataclass
class Load:
    """Requests at a fixed rate inside the ``with`` block, with a record of all outcomes."""

    url: str
    token: str
    path: str
    body: dict[str, Any]
    rate: float = 20.0
    threads: int = 4
    seconds: float = 400.0
    """Time limit of the load."""
    statuses: list[int] = field(default_factory=list)
    """Status of each response in the order of arrival."""
    answered: list[str] = field(default_factory=list)
    """Request ids of the responses with status 200."""
    versions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Requests without a response."""
    without_retry_after: int = 0
    """Responses with status 503 without Retry-After."""

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._workers = [threading.Thread(target=self._send) for _ in range(self.threads)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.join()

    def _send(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS) as client:
            until = time.monotonic() + self.seconds
            while not self._stop.is_set() and time.monotonic() < until:
                start = time.monotonic()
                try:
                    self._record(client.post(self.path, json=self.body))
                except httpx.TransportError as error:
                    self.errors.append(repr(error))
                self._stop.wait(max(0.0, self.threads / self.rate - (time.monotonic() - start)))

    def _record(self, answer: httpx.Response) -> None:
        self.statuses.append(answer.status_code)
        if answer.status_code == 503 and "Retry-After" not in answer.headers:
            self.without_retry_after += 1
        if answer.status_code == 200:
            self.answered.append(answer.headers["X-Request-ID"])
            self.versions.append(answer.headers["Slipway-Version"])
