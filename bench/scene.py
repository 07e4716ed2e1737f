"""Environment of a measured gateway: issuer, cluster, PostgreSQL, upstream, on fixed cores.

The gateway does the same work as in production: a signed token, grants by groups from PostgreSQL, a
policy with a rate and with daily and monthly quotas leased from PostgreSQL, routing by
``status.traffic``, metrics, and the event log shipped to PostgreSQL.
"""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psycopg
from joserfc import jwt
from joserfc.jwk import Key, KeySet, RSAKey
from slipway_cluster import MODEL, connect
from slipway_contract.model import API_VERSION

from tests.support.postgresql import PostgresServer
from tests.support.processes import free_port

PROXY_CORES = {min(os.sched_getaffinity(0))}
OTHER_CORES = os.sched_getaffinity(0) - PROXY_CORES or PROXY_CORES
DIGEST = "sha256:" + "ab" * 32
NAMES = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
# Limits that are checked for each prediction and never reached.
TERMS = (
    "UPDATE policies SET predictions_per_minute = 10000000, requests_per_day = 1000000000, "
    "requests_per_month = 2000000000"
)


def body(rows: int) -> str:
    """Return a V2 request."""
    return json.dumps(
        {
            "inputs": [
                {"name": name, "shape": [rows], "datatype": "FP32", "data": [1.0] * rows}
                for name in NAMES
            ]
        },
        separators=(",", ":"),
    )


def request(path: str, token: str, content: str) -> bytes:
    """Return the HTTP request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return (
        f"{head}authorization: Bearer {token}\r\ncontent-length: {len(content)}\r\n\r\n{content}"
    ).encode()


@contextmanager
def running(
    command: list[str], port: int, cores: set[int], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on these cores; yield it once its port is open."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        wait_until_open(port, process, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(
        f"{process.args!r} did not open port {port}; its log:\n{log.read_text()[-3000:]}"
    )


class Issuer:
    """OpenID Connect discovery and keys, which can stop and restart at the same address."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.rotate()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server: http.server.ThreadingHTTPServer | None = None

    def rotate(self) -> None:
        """Publish a new key beside the old ones."""
        self.keys.append(RSAKey.generate_key(2048, {"kid": f"key-{len(self.keys)}", "use": "sig"}))

    def token(
        self, *, key: int = -1, lasts: int = 7200, begins: int = 0, subject: str = "bench"
    ) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": "bench",
            "sub": subject,
            "nbf": now + begins,
            "exp": now + lasts,
            "groups": ["user"],
        }
        return jwt.encode({"alg": "RS256", "kid": self.keys[key].kid}, claims, self.keys[key])

    def __enter__(self) -> Self:
        self.come()
        return self

    def __exit__(self, *_: object) -> None:
        self.go()

    def come(self) -> None:
        issuer = self

        class Documents(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                discovery = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"}
                content = json.dumps(
                    KeySet(issuer.keys).as_dict() if self.path == "/jwks" else discovery
                ).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Documents)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


def declare(folder: Path, upstream: int) -> str:
    """Create a cluster with the models ``heart`` and ``wide`` and return its URL."""
    cluster = connect(f"local://{folder}")
    now = datetime.now(UTC).isoformat()
    for name in ("heart", "wide"):
        cluster.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "Model",
                "metadata": {"name": name},
                "spec": {"registeredModel": name},
            }
        )
        place = {"service": f"{name}-3", "url": f"http://127.0.0.1:{upstream}"}
        target = {
            "version": "3",
            "role": "live",
            "percent": 100,
            "digest": DIGEST,
            "since": now,
            **place,
        }
        cluster.update_status(MODEL, name, {"traffic": [target]})
    return f"local://{folder}"


@dataclass
class Scene:
    """One gateway and its environment; further processes may be added to its ``stack``."""

    folder: Path
    stack: ExitStack
    issuer: Issuer
    upstream: int
    port: int
    metrics_port: int
    database: str
    gateway: subprocess.Popen[bytes]
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"

    def resident(self, process: int | None = None) -> float:
        """Return the resident memory of the gateway, or of another process, in MiB."""
        status = Path(f"/proc/{process or self.gateway.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def metrics(self) -> dict[str, float]:
        """Return the gateway's metrics by name and labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10
        ) as answer:
            lines = answer.read().decode().splitlines()
        return {
            name: float(value)
            for name, _, value in (
                line.rpartition(" ") for line in lines if not line.startswith("#")
            )
        }

    def wait_until_shipped(self) -> None:
        """Wait until PostgreSQL has all events.

        Events of one measurement must not fill the spool of the next one, nor use its cores.
        """
        end = time.monotonic() + 300
        while waiting := self.metrics()["slipway_spool_bytes"]:
            if time.monotonic() > end:
                raise SystemExit(
                    f"{waiting:,.0f} bytes of events still wait for PostgreSQL; its "
                    f"log:\n{self.log.read_text()[-3000:]}"
                )
            time.sleep(0.2)

    def logged(self) -> tuple[int, int]:
        """Return the numbers of predictions and of distinct predictions in the log."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute(
                "SELECT count(*), count(DISTINCT request_id) FROM prediction_events"
            ).fetchone()
        assert row
        return int(row[0]), int(row[1])


@contextmanager
def scene(*, upstream_seconds: float = 0, **settings: str) -> Iterator[Scene]:
    """Start everything; ``settings`` are additional variables of the gateway."""
    os.sched_setaffinity(0, OTHER_CORES)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack, Issuer() as issuer:
        folder = Path(name)
        (folder / "postgres").mkdir()
        postgres = PostgresServer(folder / "postgres", cleanup_mode=None)
        postgres.start()
        stack.callback(postgres.stop)
        upstream, port, metrics_port, log = free_port(), free_port(), free_port(), folder / "log"
        command = [
            sys.executable,
            "-m",
            "bench.exchange",
            "upstream",
            "--port",
            str(upstream),
            "--seconds",
            str(upstream_seconds),
        ]
        stack.enter_context(running(command, upstream, OTHER_CORES, log))
        given = {
            "SLIPWAY_CLUSTER": declare(folder / "cluster", upstream),
            "SLIPWAY_DATABASE_URL": postgres.get_uri(),
            "SLIPWAY_OIDC_ISSUER": issuer.url,
            "SLIPWAY_OIDC_AUDIENCE": "bench",
            "SLIPWAY_GATEWAY_PORT": str(port),
            "SLIPWAY_GATEWAY_METRICS_PORT": str(metrics_port),
            "SLIPWAY_SPOOL": str(folder / "spool"),
            # One token represents many callers.
            "SLIPWAY_CONCURRENCY_PER_CALLER": "10000",
            **settings,
        }
        program = [sys.executable, "-m", "slipway_gateway"]
        subprocess.run(
            [*program, "migrate"], env={**os.environ, **given}, check=True, capture_output=True
        )
        with psycopg.connect(postgres.get_uri()) as connection:
            connection.execute(TERMS)
        gateway = stack.enter_context(running([*program, "serve"], port, PROXY_CORES, log, **given))
        wait_until_ready(port)
        yield Scene(
            folder, stack, issuer, upstream, port, metrics_port, postgres.get_uri(), gateway
        )


def wait_until_ready(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
        except OSError as error:
            seen = error
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the gateway is not ready: {seen}")
