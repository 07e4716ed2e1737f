"""The command line: what can be asked for, and how it is read."""

import argparse
import re
from datetime import timedelta
from pathlib import Path

from slipway_contract.registry import CHAMPION

from slipway_jobs.errors import WrongParameter

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

EXIT_STATUSES = """exit status:
  0  done; monitor: stable
  1  failed: the reason is on stderr and in the last line on stdout
  2  a wrong parameter; it is named, with what it may be
  3  promote, etl: refused; monitor: drift; adopt, register: it cannot be served as it is
  4  monitor: too few rows in the window to say anything
"""


def parser() -> argparse.ArgumentParser:
    """``python -m slipway_jobs
    dataset|train|tune|evaluate|promote|monitor|adopt|register|sign|batch|etl|simulate``.
    """
    top = argparse.ArgumentParser(
        prog="python -m slipway_jobs", epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Jobs of Slipway. Progress goes to stderr; the last line on stdout is the result, "
            "one JSON object."
        ),
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True)
    _dataset(
        commands.add_parser(
            "dataset", help="fetch a dataset, validate it and store it by its digest"
        )
    )
    _train(commands.add_parser("train", help="train a model and register a version of it"))
    _tune(
        commands.add_parser(
            "tune", help="try parameters by cross-validation, then train with the best"
        )
    )
    _evaluate(
        commands.add_parser("evaluate", help="score a registered version on its held-out data")
    )
    _promote(commands.add_parser("promote", help="make a version live when it is good enough"))
    _monitor(
        commands.add_parser("monitor", help="compare a window of requests with the training inputs")
    )
    _evaluate(
        commands.add_parser(
            "adopt", help="pin a version that was logged by hand with mlflow.onnx.log_model"
        )
    )
    _register(
        commands.add_parser(
            "register", help="register a model that was made elsewhere, in ONNX or skops"
        )
    )
    _evaluate(
        commands.add_parser(
            "sign", help="sign a registered version that is not signed, or by a key that is to go"
        )
    )
    commands.add_parser("batch", help="predict all rows of an uploaded file").add_argument(
        "batch", help="id of the batch"
    )
    _etl(
        commands.add_parser(
            "etl", help="bring raw sales into the warehouse, and its features up to date"
        )
    )
    _simulate(
        commands.add_parser(
            "simulate", help="send held-out rows through the gateway, and their labels"
        )
    )
    return top


def _dataset(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="of the dataset in the catalogue")
    which.add_argument(
        "--all", action="store_true", help="all of the catalogue that can be had from here"
    )


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="heart, digits, quantity, …")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="parameters",
        help="a training parameter; repeatable",
    )


def _tune(command: argparse.ArgumentParser) -> None:
    _train(command)
    command.add_argument(
        "--trials", default="20", metavar="N", help="how many points to try (%(default)s)"
    )
    command.add_argument(
        "--sweep",
        metavar="NAME",
        help=(
            "work on the sweep of that name, or begin it; that of the Job, else a new one, when "
            "not given"
        ),
    )


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument("version")


def _register(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="name of the registered model, new or not")
    command.add_argument("file", help="ONNX or skops: a path, or URL#sha256=HEX")
    command.add_argument(
        "--signature",
        metavar="JSON|FILE",
        help="names, datatypes, images, codes; found by trial when not given",
    )
    command.add_argument("--example", metavar="JSON|FILE", help="a V2 request that it answers")
    command.add_argument(
        "--expected",
        metavar="FILE",
        help="rows with their outputs by name, as .npz, .csv or .parquet",
    )
    command.add_argument(
        "--tolerance",
        default="1e-4",
        metavar="X",
        help="how far outputs may be from those (%(default)s)",
    )
    command.add_argument(
        "--format",
        choices=["skops"],
        help="serve an estimator as it is, and not as the graph made of it",
    )
    for name, what in (
        ("use", "what it is for"),
        ("dataset", "what it was trained on"),
        ("licence", "its licence"),
        ("source", "its source"),
    ):
        command.add_argument(f"--{name}", help=f"{what}, for the model card")


def _promote(command: argparse.ArgumentParser) -> None:
    _evaluate(command)
    command.add_argument("--alias", default=CHAMPION, help="the alias to move (%(default)s)")
    command.add_argument(
        "--metric", help="the metric of the gate; the model's first when not given"
    )
    command.add_argument(
        "--direction",
        choices=["max", "min"],
        help="whether larger or smaller is better, when not as usual",
    )
    command.add_argument(
        "--min-gain",
        default="0",
        metavar="X",
        help="by how much it must be better (%(default)s: not worse)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what would happen, move nothing"
    )
    command.add_argument(
        "--rollback", action="store_true", help="skip the gate; the audit tag says so"
    )
    command.add_argument("--reason", default="", help="why, for the audit tag")


def _monitor(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument(
        "--window", default="24h", help="how far back to look: 30m, 24h, 7d (%(default)s)"
    )
    command.add_argument(
        "--alias", default=CHAMPION, help="the version to compare with (%(default)s)"
    )
    command.add_argument(
        "--min-rows", default="50", metavar="N", help="fewer rows say nothing (%(default)s)"
    )
    command.add_argument(
        "--max-requests",
        default="100000",
        metavar="N",
        help="look at the newest N requests at most (%(default)s)",
    )


def _etl(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--file",
        type=Path,
        help="raw sales, CSV; sales.csv of SLIPWAY_DATA when not given, else generated ones",
    )
    command.add_argument(
        "--time-zone", default="UTC", metavar="ZONE", help="where the stores are (%(default)s)"
    )
    command.add_argument(
        "--max-rejected",
        default="0.01",
        metavar="SHARE",
        help="of the rows may not fit; else none is taken (%(default)s)",
    )
    command.add_argument(
        "--replace", action="store_true", help="forget what is in the warehouse first"
    )


def _simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument("--rate", default="60", metavar="N", help="rows a minute (%(default)s)")
    command.add_argument(
        "--duration", metavar="TIME", help="how long: 30s, 10m, 2h; until SIGTERM when not given"
    )
    command.add_argument(
        "--dataset",
        help="whose rows; the first of the model's datasets that can be had when not given",
    )
    command.add_argument(
        "--shift", action="append", default=[], metavar="COLUMN=+N[sd]", dest="shifts",
        help=(
            "add to an input, N or N standard deviations, so that there is drift to see; "
            "repeatable"
        ),
    )  # fmt: skip


def pairs(texts: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts. Raises WrongParameter."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise WrongParameter(
                f"--set {text!r}: has no KEY=VALUE form; write for example --set C=0.1"
            )
        if key in found:
            raise WrongParameter(f"--set {key}: is given twice; give it once")
        found[key] = value
    return found


def window(text: str, option: str = "--window") -> timedelta:
    """``30m``, ``24h``, ``7d``. Raises WrongParameter."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not found:
        raise WrongParameter(
            f"{option}: {text!r} is not a length of time; write a number and s, m, h or d, "
            "for example 24h"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def number(option: str, text: str, low: float) -> float:
    """A finite number of at least ``low``. Raises WrongParameter naming the option."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value < float("inf"):
        raise WrongParameter(f"{option}: {text!r} is not a number of at least {low:g}")
    return value


def count(option: str, text: str) -> int:
    """A whole number of at least 1. Raises WrongParameter naming the option."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise WrongParameter(f"{option}: {text!r} is not a whole number of at least 1")
    return int(text)


def version(text: str) -> str:
    """A version's number. Raises WrongParameter."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise WrongParameter(
            f"version: {text!r} is not a version number; it is a whole number from 1, as the "
            "registry shows it"
        )
    return text
