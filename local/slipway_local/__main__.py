"""``python -m slipway_local up [--once]``: turn the ring on this machine; ``simulate MODEL``: give
it something to do.
"""

import argparse
import re
import signal
import sys
import time
from types import FrameType
from typing import Any

import httpx
from slipway_cluster import ClusterError

from slipway_local.prediction import curl_line, predict, write_env
from slipway_local.programs import StartFailed
from slipway_local.screen import Screen
from slipway_local.settings import LocalSettings
from slipway_local.simulation import simulate
from slipway_local.stack import Ring, running
from slipway_local.templates import trainable

RENEW_SECONDS = 60.0
"""Time between two looks at the token in the state folder's ``env`` file, which is renewed in the
middle of its life.
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after Ctrl-C or a finished ``--once``, 1 when the ring did not come up or does
    not run.
    """
    parser = argparse.ArgumentParser(prog="slipway_local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start, predict, stay until Ctrl-C")
    up.add_argument(
        "--once", action="store_true", help="stop after the first prediction of each model"
    )
    up.add_argument(
        "--models", default="", help=f"which, by comma, or all: {', '.join(trainable())}"
    )
    traffic = commands.add_parser(
        "simulate", help="send a model's held-out rows through the gateway of the ring that runs"
    )
    traffic.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="those of python -m slipway_jobs simulate"
    )
    given = parser.parse_args(argv)
    settings, screen = LocalSettings(), Screen()
    if given.command == "simulate":
        try:
            simulate(settings, given.arguments)
        except httpx.HTTPError as error:
            screen.warn(f"the ring does not answer: {error}")
            return 1
    if given.models:
        settings = settings.model_copy(update={"models": chosen(parser, given.models)})
    return turn(settings, screen, once=given.once)


def turn(settings: LocalSettings, screen: Screen, *, once: bool) -> int:
    """Start the ring and let it run; the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    screen.say(f"Slipway, local. State: {settings.state} (delete it to begin anew)")
    try:
        with running(settings, screen) as stack:
            show(stack, first_predictions(stack))
            if not once:
                stay(stack)
    except KeyboardInterrupt:
        screen.say("\n  stopped; the state is kept")
    except (StartFailed, ClusterError, httpx.HTTPError) as error:
        screen.warn(f"the ring did not come up: {error}")
        screen.warn(
            f"logs of all parts: {settings.state}/logs; of Jobs and predictors: "
            f"{settings.state}/cluster"
        )
        return 1
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C and SIGTERM end the ring; what is being stopped is not interrupted by a second one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def chosen(parser: argparse.ArgumentParser, text: str) -> list[str]:
    """The models that ``--models`` names; ends the program when one of them cannot be trained."""
    known = list(trainable())
    names = known if text == "all" else [name for name in re.split(r"[,\s]+", text) if name]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--models: {', '.join(unknown)} is not one of {', '.join(known)}, all")
    return names


def first_predictions(stack: Ring) -> dict[str, dict[str, Any]]:
    """Predict with each model as a logged-in user; the answers by model."""
    answers = {}
    with stack.screen.step("predict") as said:
        write_env(stack)
        for name in stack.settings.models:
            answers[name] = predict(stack, name)
        said.append(f"{', '.join(answers)}, as user")
    return answers


def show(stack: Ring, answers: dict[str, dict[str, Any]]) -> None:
    """What the models said, a receipt, the addresses, and what to do next."""
    screen = stack.screen
    screen.say("")
    for name, each in answers.items():
        screen.say(f"  {name + ' says:':<17} {brief(each['predictions'][0])}")
    model, answer = next(iter(answers.items()))
    screen.say(f"  receipt:    version {answer['version']}  {answer['digest']}")
    screen.say(f"              request {answer['requestId']}")
    screen.say(
        f"\n  gateway     {stack.gateway_url}  (API: /v1/docs)\n  mlflow      {stack.mlflow_url}"
    )
    screen.say(
        f"  login       {stack.identity.issuer}  (passwords: {stack.settings.state}/secrets.json)"
    )
    screen.say(
        f"\n  try it:     source {stack.settings.state}/env\n              "
        f"{curl_line(stack, model)}"
    )
    screen.say(f"\n  up in {screen.elapsed:.0f} s")


def brief(row: dict[str, Any]) -> str:
    """A predicted row in a few words: whole vectors are for programs."""
    scalars = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scalars.items()
    )


def stay(stack: Ring) -> None:
    """Watch all parts until Ctrl-C, and keep the token in the state folder's ``env`` file valid."""
    stack.screen.say("  Ctrl-C stops everything; `make up` again goes on where it was")
    renewed = time.monotonic()
    while True:
        stack.programs.watch()
        if time.monotonic() - renewed > RENEW_SECONDS:
            renewed = time.monotonic()
            try:
                write_env(stack)
            except httpx.HTTPError as error:
                stack.screen.warn(
                    f"the token in {stack.settings.state}/env is not renewed: {error}"
                )
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
