"""Three times the capacity for a minute: responses during the overload, and recovery after it.

    python -m bench.overload --seconds 60

The predictor takes 0.1 s for a response and the gateway allows 64 concurrent requests to it, the
default: that is the capacity. A client in Python can send three times as many requests in time if
the machine is otherwise idle. A second caller, whose rate limit is exhausted, sends requests at the
same time. Prints Markdown; exits with 1 if a response was other than 2xx, 429 or 503 with
Retry-After, or if the service did not recover.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from threading import Thread
from typing import Any

import psycopg

from bench.scene import Scene, body, request, scene

UPSTREAM_SECONDS = 0.1
CONCURRENCY = 64
CAPACITY = CONCURRENCY / UPSTREAM_SECONDS
HASTY = "INSERT INTO policies (name, predictions_per_minute) VALUES ('hasty', 60)"
GRANT = (
    "INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('hasty', 'user:hasty', '*', "
    "'hasty')"
)
ALLOWED = {"200", "429", "503"}
PATH = "/v2/models/heart/infer"


@dataclass
class Load:
    """Requests of one caller at a fixed rate, in a separate process."""

    name: str
    rate: float
    seconds: float
    result: dict[str, Any]

    @property
    def is_as_promised(self) -> bool:
        return set(self.result["statuses"]) <= ALLOWED and not self.result["without_retry_after"]

    def row(self) -> str:
        statuses = ", ".join(
            f"{count:,} × {status}" for status, count in sorted(self.result["statuses"].items())
        )
        return (
            f"| {self.name} | {self.rate:,.0f} | {statuses} | {self.result['p50']:.0f} | "
            f"{self.result['p99']:.0f} |"
        )


def load(here: Scene, name: str, rate: float, seconds: float, subject: str = "bench") -> Load:
    command = [
        sys.executable,
        "-m",
        "bench.exchange",
        "steady",
        "--port",
        str(here.port),
        "--rate",
        str(rate),
    ]
    given = request(PATH, here.issuer.token(subject=subject), body(1))
    output = subprocess.check_output([*command, "--seconds", str(seconds)], input=given)
    return Load(name, rate, seconds, json.loads(output))


def overloaded(here: Scene, rate: float, seconds: float) -> tuple[list[Load], list[float]]:
    """Return the responses of both callers, and the gateway's memory in MiB, every five seconds."""
    found: list[Load] = []
    callers = [
        Thread(
            target=lambda: found.append(load(here, f"3 × capacity, {seconds:.0f} s", rate, seconds))
        ),
        Thread(
            target=lambda: found.append(
                load(here, "beside it, a caller with 60 a minute", 10, seconds, "hasty")
            )
        ),
    ]
    for each in callers:
        each.start()
    memory = []
    while any(each.is_alive() for each in callers):
        time.sleep(5)
        memory.append(here.resident())
    return sorted(found, key=lambda each: -each.rate), memory


def walk(seconds: float) -> bool:
    """Return True when all promises held."""
    with scene(
        upstream_seconds=UPSTREAM_SECONDS, SLIPWAY_PREDICTOR_CONCURRENCY=str(CONCURRENCY)
    ) as here:
        with psycopg.connect(here.database) as connection:
            connection.execute(HASTY)
            connection.execute(GRANT)
        load(here, "warm", CAPACITY / 2, 3)
        before = load(here, "half of it, before", CAPACITY / 2, 5)
        during, memory = overloaded(here, 3 * CAPACITY, seconds)
        after = load(here, "half of it, at once afterwards", CAPACITY / 2, 5)
        print(
            f"| load; capacity is {CAPACITY:.0f} requests/s | requests/s | answers | p50 ms "
            "| p99 ms |\n|---|--:|---|--:|--:|"
        )
        print("\n".join(each.row() for each in (before, *during, after)))
        print(
            f"\nMemory, every 5 s: {', '.join(f'{each:.0f}' for each in memory)} MiB; "
            f"{here.resident():.0f} MiB at the end."
        )
        answered = sum(each.result["statuses"].get("200", 0) for each in (before, *during, after))
        here.gateway.terminate()
        here.gateway.wait(30)
        total, different = here.logged()
        print(
            f"Answered {answered:,} (and {CAPACITY * 1.5:,.0f} to warm up); the log holds "
            f"{total:,}, {different:,} different."
        )
        is_normal = (
            set(after.result["statuses"]) == {"200"}
            and after.result["p50"] < 2 * before.result["p50"]
        )
        is_flat = memory[-1] < 1.1 * memory[len(memory) // 3]
        return (
            all(each.is_as_promised for each in during)
            and is_normal
            and is_flat
            and total == different
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    sys.exit(0 if walk(parser.parse_args().seconds) else 1)


if __name__ == "__main__":
    main()
