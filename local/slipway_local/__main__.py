"""``python -m slipway_local``: ``up [--once]`` runs the stack, ``simulate MODEL`` sends traffic."""

import argparse
import re
import signal
import sys
import time
from types import FrameType
from typing import Any

import httpx
from slipway_cluster import ClusterError

from slipway_local import packages
from slipway_local.prediction import curl_line, predict, write_env
from slipway_local.screen import Screen
from slipway_local.settings import LocalSettings
from slipway_local.simulation import simulate
from slipway_local.stack import LocalStack, StartFailed, running

RENEW_SECONDS = 60.0
"""Interval of checks of the token in the state folder's ``env`` file.

The token is renewed after half of its lifetime.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0 after Ctrl-C or ``--once``, 1 when the stack is not running."""
    parser = argparse.ArgumentParser(prog="slipway_local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start, predict, stay until Ctrl-C")
    up.add_argument(
        "--once", action="store_true", help="stop after the first prediction of each model"
    )
    up.add_argument(
        "--models",
        default="",
        help="names separated by commas, or all: " + ", ".join(packages.declared()),
    )
    traffic = commands.add_parser(
        "simulate",
        help="send a model's held-out rows through the gateway of the running local stack",
    )
    traffic.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="arguments of python -m slipway_jobs simulate"
    )
    given = parser.parse_args(argv)
    settings, screen = LocalSettings(), Screen()
    if given.command == "simulate":
        try:
            simulate(settings, given.arguments)
        except httpx.HTTPError as error:
            screen.warn(f"the local stack does not respond: {error}")
            return 1
    if given.models:
        settings = settings.model_copy(update={"models": chosen(parser, given.models)})
    return run_stack(settings, screen, once=given.once)


def run_stack(settings: LocalSettings, screen: Screen, *, once: bool) -> int:
    """Start the local stack, run it, and return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    screen.say(f"Slipway, local. State: {settings.state} (delete it to start from scratch)")
    try:
        with running(settings, screen) as stack:
            show(stack, first_predictions(stack))
            if not once:
                stay(stack)
    except KeyboardInterrupt:
        screen.say("\n  stopped; the next start reuses the state")
    except (StartFailed, ClusterError, httpx.HTTPError) as error:
        screen.warn(f"the local stack failed: {error}")
        screen.warn(f"logs of all parts, Jobs and predictors: {settings.state}/cluster/logs")
        return 1
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt for the first signal; ignore later ones during the shutdown."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def chosen(parser: argparse.ArgumentParser, text: str) -> list[str]:
    """Return the models of ``--models``; exit when one of them cannot be trained."""
    known = list(packages.declared())
    names = known if text == "all" else [name for name in re.split(r"[,\s]+", text) if name]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--models: {', '.join(unknown)} is not one of {', '.join(known)}, all")
    return names


def first_predictions(stack: LocalStack) -> dict[str, dict[str, Any]]:
    """Return a prediction of each model for a logged-in user, by model."""
    answers = {}
    with stack.screen.step("predict") as details:
        write_env(stack)
        for name in stack.settings.models:
            answers[name] = predict(stack, name)
        details.append(f"{', '.join(answers)}, as user")
    return answers


def show(stack: LocalStack, answers: dict[str, dict[str, Any]]) -> None:
    """Print the predictions, a receipt, the addresses, and the next command."""
    screen, objects = stack.screen, stack.objects
    screen.say("")
    for name, each in answers.items():
        screen.say(f"  {name + ':':<17} {brief(each['predictions'][0])}")
    model, answer = next(iter(answers.items()))
    screen.say(f"  receipt:    version {answer['version']}  {answer['digest']}")
    screen.say(f"              request {answer['requestId']}")
    screen.say(
        f"\n  gateway     {objects.gateway_url}  (API: /v1/docs)\n"
        f"  mlflow      {objects.mlflow_url}"
    )
    screen.say(
        f"  login       {objects.identity.issuer}  (passwords: {stack.settings.state}/secrets.json)"
    )
    screen.say(
        f"\n  try it:     source {stack.settings.state}/env\n              "
        f"{curl_line(stack, model)}"
    )
    screen.say(f"\n  up in {screen.elapsed:.0f} s")


def brief(row: dict[str, Any]) -> str:
    """Return a predicted row without its vectors, as text."""
    scalars = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in scalars.items()
    )


def stay(stack: LocalStack) -> None:
    """Supervise all parts until Ctrl-C and keep the token in the ``env`` file valid."""
    stack.screen.say("  Ctrl-C stops everything; `make up` starts it again with the same state")
    renewed = time.monotonic()
    while True:
        stack.check()
        if time.monotonic() - renewed > RENEW_SECONDS:
            renewed = time.monotonic()
            try:
                write_env(stack)
            except httpx.HTTPError as error:
                stack.screen.warn(
                    f"the token in {stack.settings.state}/env was not renewed: {error}"
                )
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
