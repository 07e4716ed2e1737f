"""Cost of the gateway: requests/s, latency and memory, compared with Envoy, a plain proxy and none.

The proxy under test has the first core for itself; the load, the upstream and PostgreSQL share the
others. All checks and logs of production are on (see scene.py). Prints Markdown tables.

    python -m bench.gateway --envoy .venv-bench/bin/envoy
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scene import OTHER_CORES, PROXY_CORES, Scene, body, request, running, scene
from tests.support.processes import free_port

CONNECTIONS = 64
STEADY_RATE = 500
FOREST_SECONDS = 0.0104
"""Time of the predictor for 1,024 rows, from the table of bench.serving."""

WRK = """
wrk.method = "POST"
wrk.body = %(body)s
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %(token)s"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('{"rate": %%f, "p50": %%f, "p99": %%f, "failed": %%d, "requests": %%d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout, summary.requests))
end
"""
Row = dict[str, float]
SPOOL = 2**32
"""Bytes for some seconds of 1,024 rows a request, which exceed the rate of PostgreSQL.
"""
ANSWERS = ("slipway_predictions_total", "slipway_refusals_total")
PLAIN = "through FastAPI and httpx"


@dataclass(frozen=True)
class Contender:
    """A target of the load; at the gateway, ``model`` is a Model, otherwise a service."""

    name: str
    port: int
    suffix: str = "-3"
    process: int | None = None

    def path(self, model: str) -> str:
        return f"/v2/models/{model}{self.suffix}/infer"

    def cpu(self) -> float:
        """Return the CPU seconds of the proxy's threads, without other processes on its core."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def full(
        self, token: str, seconds: float, *, rows: int = 1, connections: int = CONNECTIONS
    ) -> Row:
        """Measure the maximum rate: requests/s, milliseconds, microseconds of CPU a request."""
        before = self.cpu()
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(WRK % {"body": json.dumps(body(rows)), "token": token})
            script.flush()
            options = [
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                "--latency",
                "-s",
                script.name,
            ]
            url = f"http://127.0.0.1:{self.port}{self.path('wide' if rows > 1 else 'heart')}"
            output = subprocess.check_output(["wrk", *options, url], text=True)
        result: Row = json.loads(output[output.index("{") :])
        return {**result, "cpu": (self.cpu() - before) / max(1, result["requests"]) * 1e6}

    def steady(self, token: str, seconds: float) -> Row:
        """Measure latency at a fixed rate."""
        command = [
            sys.executable,
            "-m",
            "bench.exchange",
            "steady",
            "--port",
            str(self.port),
            "--rate",
            str(STEADY_RATE),
        ]
        given = request(self.path("heart"), token, body(1))
        result: dict[str, Any] = json.loads(
            subprocess.check_output([*command, "--seconds", str(seconds)], input=given)
        )
        failed = sum(count for status, count in result["statuses"].items() if status != "200")
        return {"p50": result["p50"], "p99": result["p99"], "failed": failed}


def envoy_config(port: int, upstream: int) -> dict[str, Any]:
    """Return the configuration of a plain reverse proxy with one worker."""

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    package = "type.googleapis.com/envoy.extensions.filters"
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{package}.http.router.v3.Router"},
    }
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
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {"address": address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def contenders(here: Scene, envoy: str | None) -> list[Contender]:
    """Start all contenders and return them."""
    found = [
        Contender("without a proxy", here.upstream),
        Contender("through the Slipway gateway", here.port, "", here.gateway.pid),
    ]
    if envoy:
        port = free_port()
        config = here.folder / "envoy.json"
        config.write_text(json.dumps(envoy_config(port, here.upstream)))
        command = [envoy, "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
        process = here.stack.enter_context(running(command, port, PROXY_CORES, here.log))
        found.append(Contender("through Envoy", port, process=process.pid))
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bench.plain:application",
        "--port",
        str(port),
        "--no-access-log",
    ]
    plain = running(
        command, port, PROXY_CORES, here.log, UPSTREAM=f"http://127.0.0.1:{here.upstream}"
    )
    found.append(Contender(PLAIN, port, "", here.stack.enter_context(plain).pid))
    return found


def medians(
    here: Scene, names: list[Contender], rounds: int, measure: Callable[[Contender], Row]
) -> dict[str, Row]:
    """Return the medians by name, measured in turns: a busy machine is busy for all."""
    rows: dict[str, list[Row]] = {each.name: [] for each in names}
    for _ in range(rounds):
        for each in names:
            here.wait_until_shipped()
            rows[each.name].append(measure(each))
    return {
        name: {
            key: (sum if key == "failed" else statistics.median)([row[key] for row in found])
            for key in found[0]
        }
        for name, found in rows.items()
    }


def full_table(found: dict[str, Row]) -> Iterator[str]:
    yield (
        "| instant upstream, called | requests/s | of Envoy | p50 ms | p99 ms | CPU µs a request "
        "| failed |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|"
    envoy = found.get("through Envoy", {}).get("rate")
    for name, row in found.items():
        cpu = f"{row['cpu']:.0f}" if row["cpu"] else "–"
        share = f"{row['rate'] / envoy:.2f}" if envoy else "–"
        yield (
            f"| {name} | {row['rate']:,.0f} | {share} | {row['p50']:.2f} | {row['p99']:.2f} | "
            f"{cpu} | {row['failed']:.0f} |"
        )


def steady_table(found: dict[str, Row]) -> Iterator[str]:
    yield f"| {STEADY_RATE} requests/s, called | p50 ms | added | p99 ms | added | failed |"
    yield "|---|--:|--:|--:|--:|--:|"
    direct = found["without a proxy"]
    for name, row in found.items():
        added = [
            f"{row[key] - direct[key]:.2f}" if row is not direct else "–" for key in ("p50", "p99")
        ]
        yield (
            f"| {name} | {row['p50']:.2f} | {added[0]} | {row['p99']:.2f} | {added[1]} | "
            f"{row['failed']:.0f} |"
        )


def wide_table(found: dict[str, Row]) -> Iterator[str]:
    yield "| 1,024 rows, called | requests/s | of direct | p50 ms | failed |"
    yield "|---|--:|--:|--:|--:|"
    direct = found["without a proxy"]
    for name, row in found.items():
        yield (
            f"| {name} | {row['rate']:,.0f} | {row['rate'] / direct['rate']:.2f} | "
            f"{row['p50']:.2f} | {row['failed']:.0f} |"
        )


def show(title: str, lines: Iterator[str]) -> None:
    print(f"\n{title}:\n")
    print("\n".join(lines), flush=True)


@contextmanager
def warm_contenders(
    envoy: str | None, upstream_seconds: float = 0
) -> Iterator[tuple[Scene, list[Contender], str]]:
    """Start the scene and all contenders, and warm them up."""
    with scene(upstream_seconds=upstream_seconds, SLIPWAY_SPOOL_LIMIT=str(SPOOL)) as here:
        token, found = here.issuer.token(), contenders(here, envoy)
        for each in found:
            each.full(token, 2)
        yield here, found, token


def compare(envoy: str | None, rounds: int, seconds: float) -> None:
    with warm_contenders(envoy) as (here, found, token):
        print(
            f"{CONNECTIONS} connections by wrk, median of {rounds} rounds of {seconds:g} s, "
            "one core for the proxy:\n"
        )
        print(
            "\n".join(
                full_table(medians(here, found, rounds, lambda each: each.full(token, seconds)))
            )
        )
        resident = here.resident()
        fast = [each for each in found if each.name != PLAIN]  # too slow for that rate
        show(
            "In the same run",
            steady_table(medians(here, fast, rounds, lambda each: each.steady(token, seconds))),
        )
        wide = medians(here, found, rounds, lambda each: each.full(token, seconds, rows=1024))
        show(f"{CONNECTIONS} connections, an upstream that answers at once", wide_table(wide))
        print(
            f"\nThe gateway holds {resident:.0f} MiB after {CONNECTIONS} connections, "
            f"{here.resident():.0f} MiB at the end."
        )
        counts = {
            name: value
            for name, value in here.metrics().items()
            if name.startswith(ANSWERS) and value
        }
        print(
            "Answers, by its own metrics: "
            + ", ".join(f"{value:,.0f} × `{name}`" for name, value in counts.items())
        )
        database = here.logged
        here.gateway.terminate()
        here.gateway.wait(30)
        print("The event log holds {:,} predictions, {:,} different ones.".format(*database()))
    with warm_contenders(envoy, FOREST_SECONDS) as (here, found, token):
        wide = medians(
            here, found, rounds, lambda each: each.full(token, seconds, rows=1024, connections=1)
        )
        show(
            (
                f"One connection, an upstream that takes {FOREST_SECONDS * 1e3:.1f} ms, like the "
                "predictor"
            ),
            wide_table(wide),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envoy", help="path of Envoy; without it that row is omitted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk, which generates the load, is not installed")
    os.sched_setaffinity(0, OTHER_CORES)
    compare(given.envoy, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
