"""``python -m slipway_jobs``: run the Job of the command line and print its result."""

import json
import logging
import signal
import sys
import threading
from argparse import Namespace
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any, NoReturn

from slipway.errors import SlipwayError
from slipway.options import pairs

from slipway_jobs import command
from slipway_jobs.settings import read_settings, read_simulator_settings

# Heavy libraries are imported in the command that needs them: scikit-learn and the ONNX converter
# take as long to load as a promotion takes to run, and a wrong parameter must fail immediately.

logger = logging.getLogger(__name__)

STATUS = {"refused": 3, "undecided": 3, "drift": 3, "too few rows": 4}
"""Exit status of each state that is not 0."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("httpx", "skl2onnx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    given = command.parser().parse_args(arguments)
    try:
        # Libraries may print; stdout is reserved for the result.
        with redirect_stdout(sys.stderr):
            result = COMMANDS[given.command](given)
    except SlipwayError as error:
        logger.error("%s", error)  # noqa: TRY400  # a SlipwayError's text is for the user; a stack trace adds nothing
        print(json.dumps({"state": "failed", "error": type(error).__name__, "reason": str(error)}))  # noqa: T201
        return error.status
    except Exception as error:
        logger.exception("%s failed", given.command)
        print(json.dumps({"state": "failed", "error": type(error).__name__, "reason": str(error)}))  # noqa: T201
        return 1
    print(json.dumps(result), flush=True)  # noqa: T201
    if given.command in REGISTRY_COMMANDS:
        # The argument may be a task as MODULE:NAME.
        name = result.get("model", given.model)
        try:
            with redirect_stdout(sys.stderr):
                _copy_versions(given.command, name, result)
        except Exception:  # the process's edge: the command has succeeded
            logger.exception("the versions of %s are not copied to PostgreSQL", name)
    return STATUS.get(result["state"], 0)


def _terminate(*_: object) -> NoReturn:
    """Raise SystemExit on SIGTERM, so that a Job that Kubernetes stops closes its MLflow run."""
    raise SystemExit(128 + signal.SIGTERM)


def _dataset(given: Namespace) -> dict[str, Any]:
    settings = read_settings()
    from slipway.registry.tracking import Tracking

    from slipway_jobs.datasets.storing import store, store_all

    tracking = Tracking(settings.mlflow_tracking_uri)
    return store_all(settings, tracking) if given.all else store(given.name, settings, tracking)


def _train(given: Namespace) -> dict[str, Any]:
    parameters = pairs(given.parameters)
    settings = read_settings()
    from slipway.training.installed import declared_task
    from slipway.training.task import parse_parameters

    task = declared_task(given.model)
    parsed = parse_parameters(task, parameters)
    from slipway.registry.tracking import Tracking

    from slipway_jobs.training.training import train

    return train(task, parsed, settings, Tracking(settings.mlflow_tracking_uri))


def _tune(given: Namespace) -> dict[str, Any]:
    parameters, trials = pairs(given.parameters), command.count("--trials", given.trials)
    settings = read_settings()
    from slipway.training.installed import declared_task
    from slipway.training.task import parse_parameters

    task = declared_task(given.model)
    parse_parameters(task, parameters)  # fail before Optuna is loaded
    from slipway.registry.tracking import Tracking

    from slipway_jobs.tuning.tuning import SweepRequest, tune

    return tune(
        task,
        SweepRequest(parameters, trials, given.sweep),
        settings,
        Tracking(settings.mlflow_tracking_uri),
    )


def _evaluate(given: Namespace) -> dict[str, Any]:
    number, settings = command.version(given.version), read_settings()
    from slipway.registry.tracking import Tracking
    from slipway.training.installed import task_of

    from slipway_jobs.promotion.evaluation import evaluate

    tracking = Tracking(settings.mlflow_tracking_uri)
    version = tracking.version(given.model, number)
    return evaluate(task_of(given.model), version, settings, tracking)


def _promote(given: Namespace) -> dict[str, Any]:
    number, gain, settings = (
        command.candidate(given),
        command.number("--min-gain", given.min_gain, -1e9),
        read_settings(),
    )
    from slipway.registry.tracking import Tracking
    from slipway.training.installed import task_of
    from slipway.training.metric import Direction

    from slipway_jobs.promotion.best import best_version
    from slipway_jobs.promotion.promotion import PromotionRequest, promote

    # A rollback needs no task, whose package may be broken.
    task = None if given.rollback else task_of(given.model)
    if task:
        task.metric(given.metric)
    direction = Direction(given.direction) if given.direction else None
    request = PromotionRequest(
        given.alias, given.metric, direction, gain, given.dry_run, given.rollback, given.reason,
        given.moved_from and command.version(given.moved_from),
    )  # fmt: skip
    tracking = Tracking(settings.mlflow_tracking_uri)
    if number != command.BEST:
        return promote(task, tracking.version(given.model, number), request, settings, tracking)
    by = given.by or given.metric
    found = best_version(task, given.model, by, direction, given.alias, settings, tracking)
    request = replace(request, chosen_of=len(found.scores))
    return {**promote(task, found.best, request, settings, tracking), **found.as_json()}


def _monitor(given: Namespace) -> dict[str, Any]:
    window = command.window(given.window)
    min_rows, limit = (
        command.count("--min-rows", given.min_rows),
        command.count("--max-requests", given.max_requests),
    )
    settings = read_settings()
    from slipway.registry.tracking import Tracking

    from slipway_jobs.monitoring.monitoring import monitor

    tracking = Tracking(settings.mlflow_tracking_uri)
    return monitor(given.model, given.alias, window, min_rows, limit, settings, tracking)


def _adopt(given: Namespace) -> dict[str, Any]:
    number, settings = command.version(given.version), read_settings()
    from slipway.registry.tracking import Tracking

    from slipway_jobs.registry.adoption import adopt

    tracking = Tracking(settings.mlflow_tracking_uri)
    return adopt(tracking.version(given.model, number), settings, tracking)


def _register(given: Namespace) -> dict[str, Any]:
    tolerance, settings = command.number("--tolerance", given.tolerance, 0), read_settings()
    from slipway.registry.tracking import Tracking

    from slipway_jobs.imports.registration import RegistrationRequest, register

    request = RegistrationRequest(
        given.model, given.file, given.signature, given.example, given.expected, tolerance,
        given.use, given.dataset, given.licence, given.source, given.format == "skops",
    )  # fmt: skip
    return register(request, settings, Tracking(settings.mlflow_tracking_uri))


def _sign(given: Namespace) -> dict[str, Any]:
    number, settings = command.version(given.version), read_settings()
    from slipway.registry.tracking import Tracking

    from slipway_jobs.registry.signing import sign_version

    tracking = Tracking(settings.mlflow_tracking_uri)
    return sign_version(tracking.version(given.model, number), settings, tracking)


def _batch(given: Namespace) -> dict[str, Any]:
    settings = read_settings()
    from slipway_jobs.batches.batch import predict_batch

    return predict_batch(given.batch, settings)


def _etl(given: Namespace) -> dict[str, Any]:
    allowed, settings = command.number("--max-rejected", given.max_rejected, 0), read_settings()
    from slipway_jobs.sales.etl import EtlOptions, etl

    return etl(EtlOptions(given.file, given.time_zone, allowed, given.replace), settings)


def _simulate(given: Namespace) -> dict[str, Any]:
    rate = command.number("--rate", given.rate, 0.001)
    seconds = (
        command.window(given.duration, "--duration").total_seconds() if given.duration else None
    )
    settings = read_simulator_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # both end it normally, with its counts
        signal.signal(number, lambda *_: stop.set())
    from slipway.training.installed import declared_task

    from slipway_jobs.simulation.simulation import Plan, Shift, simulate

    plan = Plan(rate, seconds, given.dataset, [Shift.parse(text) for text in given.shifts])
    return simulate(declared_task(given.model), plan, settings, stop)


def _copy_versions(command: str, name: str, result: dict[str, Any]) -> None:
    """Copy the versions of the command's registered model to PostgreSQL, if there is one."""
    settings = read_settings()
    if settings.database_url is None:
        return
    from slipway.registry.tracking import Tracking

    from slipway_jobs.registry.version_rows import copy_versions, record_decision

    if command == "promote":
        record_decision(result, settings)
    copy_versions(name, settings, Tracking(settings.mlflow_tracking_uri))


REGISTRY_COMMANDS = ("train", "tune", "evaluate", "promote", "monitor", "adopt", "register", "sign")
"""Commands with a registered model, whose versions they copy to PostgreSQL."""
COMMANDS = {
    "dataset": _dataset,
    "train": _train,
    "tune": _tune,
    "evaluate": _evaluate,
    "promote": _promote,
    "monitor": _monitor,
    "adopt": _adopt,
    "register": _register,
    "sign": _sign,
    "batch": _batch,
    "etl": _etl,
    "simulate": _simulate,
}

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
