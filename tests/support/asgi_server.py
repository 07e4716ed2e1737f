"""A real HTTP server on a free loopback port, in a thread of the test's process."""

import threading
import weakref
from pathlib import Path
from typing import Any, Self

import uvicorn

from tests.support.processes import reserved_port
from tests.support.waiting import SECONDS, wait_for


class AsgiServer:
    """An ASGI application in uvicorn, as a reusable context manager.

    ``url`` is available inside of the context. ``certificate`` is a PEM file of a key and its
    certificate for ``localhost``; with it the server uses https.
    """

    def __init__(
        self,
        application: Any,
        *,
        lifespan: str = "off",
        http: Any = "auto",
        certificate: Path | None = None,
    ) -> None:
        self._application = application
        self._http = http
        self._lifespan = lifespan
        self._certificate = certificate
        # The server may be stopped and started again, and then listens on the same port.
        reserved = reserved_port()
        weakref.finalize(self, reserved.close)
        self._port = reserved.getsockname()[1]

    @property
    def url(self) -> str:
        return (
            f"https://localhost:{self._port}"
            if self._certificate
            else f"http://127.0.0.1:{self._port}"
        )

    def __enter__(self) -> Self:
        config = uvicorn.Config(
            self._application,
            host="127.0.0.1",
            port=self._port,
            lifespan=self._lifespan,  # type: ignore[arg-type]
            http=self._http,
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            ssl_certfile=self._certificate,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for("server start", lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started, "the server ended immediately"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"


class ServerContext:
    """A context manager that runs its ``server``."""

    server: AsgiServer

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *arguments: object) -> None:
        self.server.__exit__(*arguments)
