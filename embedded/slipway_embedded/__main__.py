"""``python -m slipway_embedded up [--once]``: turn the ring on this machine."""

import argparse
import signal
import sys
import time
from types import FrameType
from typing import Any

import httpx
from slipway_cluster import ClusterError

from slipway_embedded.prediction import curl_line, predict, write_env
from slipway_embedded.programs import StartFailed
from slipway_embedded.ring import Ring, running
from slipway_embedded.screen import Screen
from slipway_embedded.settings import EmbeddedSettings


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after Ctrl-C or a finished ``--once``, 1 when the ring did not come up."""
    parser = argparse.ArgumentParser(prog="slipway_embedded", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser("up", help="start, predict, stay until Ctrl-C")
    command.add_argument("--once", action="store_true", help="stop after the first prediction")
    once = parser.parse_args(argv).once
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    settings, screen = EmbeddedSettings(), Screen()
    screen.say(f"Slipway, embedded. State: {settings.state} (delete it to begin anew)")
    try:
        with running(settings, screen) as ring:
            show(ring, first_prediction(ring))
            if not once:
                stay(ring)
    except KeyboardInterrupt:
        screen.say("\n  stopped; the state is kept")
    except (StartFailed, ClusterError, httpx.HTTPError) as error:
        screen.warn(f"the ring did not come up: {error}")
        screen.warn(f"logs of all parts: {settings.state}/logs; of Jobs and predictors: {settings.state}/cluster")
        return 1
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM end the ring; what is being stopped is not interrupted by a second one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def first_prediction(ring: Ring) -> dict[str, Any]:
    """Predict as a logged-in user."""
    with ring.screen.step("predict") as said:
        write_env(ring)
        answer = predict(ring)
        said.append("heart, as user")
    return answer


def show(ring: Ring, answer: dict[str, Any]) -> None:
    """The receipt, the addresses, and what to do next."""
    outcome = answer["predictions"][0]
    screen = ring.screen
    screen.say(f"\n  heart says: label {outcome['label']}, probability of disease {outcome['probability']:.3f}")
    screen.say(f"  receipt:    version {answer['version']}  {answer['digest']}")
    screen.say(f"              request {answer['requestId']}")
    screen.say(f"\n  gateway     {ring.gateway_url}  (API: /v1/docs)\n  mlflow      {ring.mlflow_url}")
    screen.say(f"  login       {ring.identity.issuer}  (passwords: {ring.settings.state}/secrets.json)")
    screen.say(f"\n  try it:     source {ring.settings.state}/env\n              {curl_line()}")
    screen.say(f"\n  up in {screen.elapsed:.0f} s")


def stay(ring: Ring) -> None:
    """Watch all parts until Ctrl-C."""
    ring.screen.say("  Ctrl-C stops everything; `make up` again goes on where it was")
    while True:
        ring.programs.watch()
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
