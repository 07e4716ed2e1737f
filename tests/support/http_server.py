"""Servers of the standard library on a free loopback port, in a thread of the test's process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

from tests.support.waiting import SECONDS

Response = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
"""Status, body, and further headers."""


class Handler(BaseHTTPRequestHandler):
    """A handler without log lines."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def handler_server(handler: type[Handler]) -> Iterator[str]:
    """Start a server with this handler; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def http_server(respond: Callable[[str, str, dict[str, str], bytes], Response]) -> Iterator[str]:
    """Start a server and yield its URL.

    ``respond`` returns status and body for method, path, headers and body.
    """

    class Responder(Handler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content, *more = respond(self.command, self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815  # names that http.server calls

    with handler_server(Responder) as url:
        yield url


@contextmanager
def modifying_proxy(url: str, modify: Callable[[str, str, bytes], bytes]) -> Iterator[str]:
    """Start a proxy to the server that forwards ``modify(method, path, body)``; yield its URL."""
    with httpx.Client(base_url=url, timeout=SECONDS) as client:

        def forward(method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
            forwarded = {
                name: value
                for name, value in headers.items()
                if name.lower() in ("content-type", "accept")
            }
            content = modify(method, path, body)
            response = client.request(method, path, headers=forwarded, content=content)
            return response.status_code, response.content

        with http_server(forward) as address:
            yield address
