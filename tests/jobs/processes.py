"""Real servers for the tests: MLflow with its artifact proxy, and a proxy that modifies bodies."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """Start an MLflow tracking server with its state in the folder; yield its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    # The tests need neither MLflow's job runner nor its telemetry.
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }  # fmt: skip
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait_for(server, f"{url}/health", log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def _wait_for(server: "subprocess.Popen[bytes]", url: str, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    seen = "nothing"
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if (response := httpx.get(url, timeout=5)).is_success:
                return
            seen = f"status {response.status_code}"
        except httpx.HTTPError as error:
            seen = repr(error)
        time.sleep(0.1)
    raise AssertionError(f"no MLflow at {url}: {seen}\n{log.read_text()[-4000:]}")


Response = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
"""Status, body, and further headers."""


@contextmanager
def http_server(respond: Callable[[str, str, dict[str, str], bytes], Response]) -> Iterator[str]:
    """Start a loopback server and yield its URL.

    ``respond`` returns status and body for method, path, headers and body.
    """

    class Handler(BaseHTTPRequestHandler):
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

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def connection_to(url: str, modify: Callable[[str, str, bytes], bytes]) -> Iterator[str]:
    """Start a proxy to the server that forwards ``modify(method, path, body)``; yield its URL."""
    with httpx.Client(base_url=url, timeout=30) as client:

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
