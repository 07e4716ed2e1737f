"""The command line: subcommands, their options and the parsers of option values."""

import argparse
import re
from datetime import timedelta
from pathlib import Path

from slipway.errors import WrongParameter
from slipway_contract.registry import CHAMPION

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

EXIT_STATUSES = """exit status:
  0  done; monitor: stable
  1  failed: the reason is on stderr and in the last line of stdout
  2  a parameter is invalid: the reason names it and its valid values
  3  promote: refused or undecided; etl: refused; monitor: drift; adopt, register: the model
     cannot be served
  4  monitor: too few rows in the window
"""


BEST = "best"
"""In place of a version: the best one by a metric."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of ``python -m slipway_jobs`` with all subcommands."""
    top = argparse.ArgumentParser(
        prog="python -m slipway_jobs", epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Jobs of Slipway. Progress goes to stderr; the last line of stdout is the result, "
            "one JSON object."
        ),
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True)
    _dataset(
        commands.add_parser(
            "dataset", help="download a dataset, validate it and store it by its digest"
        )
    )
    _train(commands.add_parser("train", help="train a model and register a version"))
    _tune(
        commands.add_parser(
            "tune", help="search parameters by cross-validation, then train with the best"
        )
    )
    _evaluate(
        commands.add_parser("evaluate", help="score a registered version on its held-out data")
    )
    _promote(commands.add_parser("promote", help="move an alias to a version that passes the gate"))
    _monitor(
        commands.add_parser("monitor", help="compare a window of requests with the training inputs")
    )
    _evaluate(
        commands.add_parser(
            "adopt", help="package and pin a version that was logged with mlflow.FLAVOR.log_model"
        )
    )
    _register(
        commands.add_parser("register", help="register an external model in ONNX or skops format")
    )
    _evaluate(
        commands.add_parser(
            "sign", help="sign a registered version, also in place of another key's signature"
        )
    )
    commands.add_parser("batch", help="predict all rows of an uploaded file").add_argument(
        "batch", help="id of the batch"
    )
    _etl(
        commands.add_parser("etl", help="load raw sales into the warehouse and update its features")
    )
    _simulate(
        commands.add_parser(
            "simulate", help="send held-out rows through the gateway, and their labels"
        )
    )
    return top


def _dataset(command: argparse.ArgumentParser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="name of a declared dataset")
    which.add_argument(
        "--all", action="store_true", help="store all declared datasets that are available"
    )


def _train(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="name of an installed task, or module:attribute")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="parameters",
        help="set a training parameter; repeatable",
    )


def _tune(command: argparse.ArgumentParser) -> None:
    _train(command)
    command.add_argument(
        "--trials", default="20", metavar="N", help="number of trials (%(default)s)"
    )
    command.add_argument(
        "--sweep",
        metavar="NAME",
        help="sweep to join or start; by default that of the Job, otherwise a new one",
    )


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument("version")


def _register(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="name of the registered model; created if missing")
    command.add_argument("file", help="ONNX or skops: a path, or URL#sha256=HEX")
    command.add_argument(
        "--signature",
        metavar="JSON|FILE",
        help="model signature; by default derived from the graph by trial",
    )
    command.add_argument("--example", metavar="JSON|FILE", help="a valid V2 request")
    command.add_argument(
        "--expected",
        metavar="FILE",
        help="rows with expected outputs by name, as .npz, .csv or .parquet",
    )
    command.add_argument(
        "--tolerance",
        default="1e-4",
        metavar="X",
        help="largest difference from expected outputs (%(default)s)",
    )
    command.add_argument(
        "--format",
        choices=["skops"],
        help="serve a skops estimator itself, not the ONNX graph exported from it",
    )
    for name, what in (
        ("use", "intended use"),
        ("dataset", "training data"),
        ("licence", "licence"),
        ("source", "source"),
    ):
        command.add_argument(f"--{name}", help=f"{what}, for the model card")


def _promote(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument("version", help=f"version, or {BEST}: the best one by --by")
    command.add_argument(
        "--by", metavar="METRIC", help=f"metric that chooses {BEST}; by default --metric"
    )
    command.add_argument("--alias", default=CHAMPION, help="alias to move (%(default)s)")
    command.add_argument("--metric", help="metric of the gate; by default the model's first")
    command.add_argument(
        "--direction",
        choices=["max", "min"],
        help="whether larger or smaller is better; by default as the metric defines",
    )
    command.add_argument(
        "--min-gain",
        default="0",
        metavar="X",
        help=(
            "gain that the metric must exceed with 95 %% confidence (%(default)s: better); a "
            "negative one accepts a version that is at most that much worse"
        ),
    )
    command.add_argument("--dry-run", action="store_true", help="print the decision, move no alias")
    command.add_argument(
        "--rollback", action="store_true", help="skip the gate; the audit tag records it"
    )
    command.add_argument(
        "--from",
        dest="moved_from",
        metavar="VERSION",
        help="move the alias from this version only; by default from any",
    )
    command.add_argument("--reason", default="", help="reason, for the audit tag")


def _monitor(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument(
        "--window", default="24h", help="length of the window: 30m, 24h, 7d (%(default)s)"
    )
    command.add_argument(
        "--alias", default=CHAMPION, help="alias of the version to compare with (%(default)s)"
    )
    command.add_argument(
        "--min-rows", default="50", metavar="N", help="fewest rows for a result (%(default)s)"
    )
    command.add_argument(
        "--max-requests",
        default="100000",
        metavar="N",
        help="read at most the newest N requests (%(default)s)",
    )


def _etl(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--file",
        type=Path,
        help="raw sales as CSV; by default sales.csv in SLIPWAY_DATA, otherwise generated rows",
    )
    command.add_argument(
        "--time-zone", default="UTC", metavar="ZONE", help="time zone of the stores (%(default)s)"
    )
    command.add_argument(
        "--max-rejected",
        default="0.01",
        metavar="SHARE",
        help="largest share of invalid rows; above it, nothing is loaded (%(default)s)",
    )
    command.add_argument("--replace", action="store_true", help="delete the warehouse's rows first")


def _simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model")
    command.add_argument("--rate", default="60", metavar="N", help="rows per minute (%(default)s)")
    command.add_argument(
        "--duration", metavar="TIME", help="length: 30s, 10m, 2h; by default until SIGTERM"
    )
    command.add_argument(
        "--dataset", help="dataset of the rows; by default the model's first available one"
    )
    command.add_argument(
        "--shift", action="append", default=[], metavar="COLUMN=+N[sd]", dest="shifts",
        help="add N, or N standard deviations, to an input, to simulate drift; repeatable",
    )  # fmt: skip


def window(text: str, option: str = "--window") -> timedelta:
    """Parse a length of time, ``30m``, ``24h`` or ``7d``. Raises WrongParameter."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", text)
    if not found:
        raise WrongParameter(
            f"{option}: {text!r} is not a length of time; write a number and s, m, h or d, "
            "for example 24h"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def number(option: str, text: str, low: float) -> float:
    """Parse a finite number of at least ``low``. Raises WrongParameter with the option's name."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value < float("inf"):
        raise WrongParameter(f"{option}: {text!r} is not a number of at least {low:g}")
    return value


def count(option: str, text: str) -> int:
    """Parse a whole number of at least 1. Raises WrongParameter with the option's name."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise WrongParameter(f"{option}: {text!r} is not a whole number of at least 1")
    return int(text)


def candidate(given: argparse.Namespace) -> str:
    """Return the version that a promotion names, or BEST. Raises WrongParameter."""
    if given.version != BEST:
        if given.by:
            raise WrongParameter(f"--by: chooses {BEST}, and version {given.version} is given")
        return version(given.version)
    if given.rollback:
        raise WrongParameter(f"version: a rollback to {BEST} is not possible; name a version")
    if not (given.by or given.metric):
        raise WrongParameter(f"--by: {BEST} needs a metric; add --by=METRIC")
    return BEST


def version(text: str) -> str:
    """Return the version number if it is valid. Raises WrongParameter."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise WrongParameter(
            f"version: {text!r} is not a version number; it is a whole number from 1, as the "
            "registry shows it"
        )
    return text
