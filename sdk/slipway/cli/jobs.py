"""Commands of trainings and batches."""

import os
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import click

from slipway.cli.platform import client, on_platform, output, progress, rows_of, show
from slipway.cli.predictions import _value
from slipway.errors import SlipwayError, WrongParameter
from slipway.options import pairs

WAIT = click.option("--wait", is_flag=True, help="wait for the end; progress goes to stderr")
WITHIN = click.option(
    "--within",
    type=click.IntRange(1, 7 * 86400),
    default=3600,
    metavar="SECONDS",
    help="longest time of --wait; the exit status is 4 after it",
)


@click.command()
@click.argument("name", metavar="MODEL | TASK")
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="KEY=VALUE",
    help="training parameter; may be repeated",
)
@click.option("--local", is_flag=True, help="train the installed task of this name here")
@WAIT
@WITHIN
@on_platform
@output
def train(
    name: str,
    parameters: tuple[str, ...],
    local: bool,
    wait: bool,
    within: int,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Start a training of a MODEL on the platform, or train a TASK here.

    TASK is module:attribute, found from the current folder as well, or with --local the name of an
    installed task. It declares data, a function that returns a data frame; its version is
    registered on the server of MLFLOW_TRACKING_URI.
    """
    given = pairs(parameters)
    if local or ":" in name:
        for option, is_given in (("--curl", curl), ("--wait", wait)):
            if is_given:
                raise WrongParameter(
                    f"{option}: is for a training on the platform, and {name} is trained here; "
                    "leave it out"
                )
        _train_here(name, given, form)
        return
    with client(profile, curl) as platform:
        training = platform.train(name, **{key: _value(text) for key, text in given.items()})
        if wait:
            progress(f"training {training.training_id}: waiting; see slipway logs -f {name}")
            training = platform.wait(training, within)
    row = _builtins(training)
    show(form, row, [row], ("trainingId", "state", "reason"), ("created", "finished", "result"))
    if training.state == "failed":
        raise SlipwayError(
            f"training {training.training_id} failed: {training.reason}; slipway logs {name} "
            f"{training.training_id} shows its log"
        )


def _train_here(task: str, given: dict[str, str], form: str) -> None:
    sys.path.insert(0, str(Path.cwd()))
    import slipway

    _ = slipway.log_model  # names the extra that is missing
    from slipway.registry.tracking import connect
    from slipway.training.frame_training import train_frame
    from slipway.training.installed import declared_task
    from slipway.training.task import parse_parameters

    declared = declared_task(task)
    if declared.data is None:
        raise WrongParameter(
            f"task {declared.name}: its rows come from declared datasets, which Jobs load; run "
            f"python -m slipway_jobs train {task}, which is in the image slipway/jobs"
        )
    is_text = form in ("table", "wide")
    # Reports of the version and of MLflow are no part of a result for programs.
    with nullcontext() if is_text else redirect_stdout(sys.stderr):
        result = train_frame(declared, parse_parameters(declared, given), connect())
    if not is_text:
        show(form, result, [result], ("version",), ("digest", "metrics"))
        return
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
    click.echo(f"{declared.name}/{result['version']}  {result['digest']}\n{scores} (held out)")


def _builtins(response: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(response)
    return found


@click.command()
@click.argument("model")
@on_platform
@output
def trainings(model: str, profile: str | None, curl: bool, form: str) -> None:
    """List the trainings of a model, newest first."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.list_trainings, model=model).json()
    columns = ("trainingId", "state", "created", "finished", "reason")
    wide = ("submittedBy", "parameters", "result")
    show(form, answer, rows_of(answer, "trainings"), columns, wide)


@click.command()
@click.argument("model")
@click.argument("training", required=False)
@click.option("--follow", "-f", is_flag=True, help="follow the log until the training has ended")
@click.option("--profile", metavar="NAME", help="platform, by default the current one")
def logs(model: str, training: str | None, follow: bool, profile: str | None) -> None:
    """Print the log of a TRAINING of a model, by default of its newest one."""
    from slipway import operations

    with client(profile, False) as platform:
        if training is None:
            found = platform.call(operations.list_trainings, model=model).trainings
            if not found:
                raise SlipwayError(f"model {model}: has no training; slipway train starts one")
            training = found[0].training_id
        for line in platform.logs(model, training, follow=follow):
            click.echo(line)


@click.command()
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--save", type=click.Path(path_type=Path), help="file for the result; implies --wait")
@WAIT
@WITHIN
@on_platform
@output
def batch(
    model: str,
    file: Path,
    save: Path | None,
    wait: bool,
    within: int,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Predict all rows of a FILE, CSV or Parquet, in a Job.

    The format of the result is that of the name: .csv or .parquet.
    """
    from slipway import operations

    kind = "parquet" if save is None else _result_format(save)
    with client(profile, curl) as platform, file.open("rb") as content:
        created = platform.call(operations.create_batch, model=model, files={"file": content})
        if wait or save:
            progress(f"batch {created.batch_id}: waiting")
            created = platform.wait(created, within)
        if save is not None and created.state == "succeeded":
            platform.download(
                operations.get_batch_result, save, batch_id=created.batch_id, format=kind
            )
    row = _builtins(created)
    columns = ("batchId", "state", "rows", "rowsDone", "rowsFailed", "reason")
    show(form, row, [row], columns, ("version", "created", "finished", "expires"))
    if created.state == "failed":
        raise SlipwayError(f"batch {created.batch_id} failed: {created.reason}")


def _result_format(path: Path) -> str:
    """Return the format of a result's file. Raises WrongParameter when it cannot be written."""
    if path.suffix not in (".csv", ".parquet"):
        raise WrongParameter(f"--save {path}: has no known format; end it in .csv or .parquet")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise WrongParameter(f"--save {path}: cannot be written; give a file in another folder")
    return path.suffix.removeprefix(".")


@click.command()
@click.option("--limit", type=click.IntRange(1), help="number of batches")
@on_platform
@output
def batches(limit: int | None, profile: str | None, curl: bool, form: str) -> None:
    """List your batches, newest first."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.list_batches, limit=limit).json()
    columns = ("batchId", "model", "state", "rows", "rowsDone", "rowsFailed")
    wide = ("version", "created", "finished", "expires", "reason")
    show(form, answer, rows_of(answer, "batches"), columns, wide)


COMMANDS = (train, trainings, logs, batch, batches)
