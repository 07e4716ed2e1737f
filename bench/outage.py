"""An issuer outage of five minutes, followed by new keys, and clock skew.

    python -m bench.outage --seconds 300

A gateway process with its usual settings. Prints requests and statuses; exits with 1 after an
unexpected one.
"""

import argparse
import http.client
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass

from bench.scene import Scene, body, scene

PATH = "/v2/models/heart/infer"


@dataclass
class Walk:
    """Sends requests and counts unexpected responses."""

    scene: Scene
    wrong: int = 0

    def ask(self, token: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.scene.port, timeout=40)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", PATH, body(1), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def expect(self, what: str, status: int, *tokens: str) -> None:
        seen = Counter(self.ask(token) for token in tokens)
        self.wrong += seen != {status: len(tokens)}
        print(
            (
                f"| {what} | {json.dumps(dict(seen))} | "
                f"{'as it should be' if seen == {status: len(tokens)} else f'not {status}'} |"
            ),
            flush=True,
        )

    def away(self, seconds: float, token: str) -> None:
        """Send a token in use twice a second, and sometimes an unseen one with a known key."""
        seen: Counter[str] = Counter()
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            seen[f"in use {self.ask(token)}"] += 1
            if number % 20 == 0:
                seen[f"new {self.ask(self.scene.issuer.token(key=0, lasts=3600 + number))}"] += 1
            number += 1
            time.sleep(0.5)
        self.wrong += any(not name.endswith("200") for name in seen)
        print(
            f"| the issuer is away for {seconds:.0f} s | {json.dumps(dict(seen))} | |", flush=True
        )

    def found(self, token: str, seconds: float) -> None:
        """Measure the time until a newly published key is accepted."""
        start = time.monotonic()
        while (status := self.ask(token)) != 200 and time.monotonic() - start < seconds:
            time.sleep(0.2)
        self.wrong += status != 200
        print(
            (
                f"| the issuer is back: a token of its new key | {status} after "
                f"{time.monotonic() - start:.1f} s | |"
            ),
            flush=True,
        )


def walk(seconds: float) -> int:
    """Return the number of failed expectations."""
    with scene() as here:
        issuer, it = here.issuer, Walk(here)
        known = issuer.token()
        print("| what | statuses | |\n|---|---|---|", flush=True)
        it.expect("a token", 200, known)
        it.expect(
            "the issuer's clock is 20 s ahead, 20 s behind",
            200,
            issuer.token(begins=20),
            issuer.token(lasts=-20),
        )
        it.expect("60 s ahead, 60 s behind", 401, issuer.token(begins=60), issuer.token(lasts=-60))
        issuer.rotate()
        time.sleep(10)  # SLIPWAY_OIDC_REFETCH_SECONDS
        it.expect("a new key beside the old one", 200, issuer.token(), known)
        issuer.go()
        issuer.rotate()
        it.away(seconds, known)
        it.expect("a token of a key that is not published yet", 401, issuer.token())
        issuer.come()
        it.found(issuer.token(), 30)
        it.expect("the old keys' tokens", 200, known, issuer.token(key=0), issuer.token(key=1))
        print(f"\nThe gateway process is the same one: {here.gateway.poll() is None}")
        return it.wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    sys.exit(1 if walk(parser.parse_args().seconds) else 0)


if __name__ == "__main__":
    main()
