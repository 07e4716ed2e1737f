"""The command ``slipway``: projects, model files, and Models of a platform."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from slipway import operations
from slipway.client import Client
from slipway.errors import ApiError, SlipwayError, WrongParameter
from slipway.options import pairs
from slipway.project import create_project

_ROWS = click.Path(path_type=Path)
_COLUMNS = ("name", "ready", "version", "message")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """Create a project of a model, package model files, and declare Models of a platform.

    The platform is that of SLIPWAY_URL, the URL of the gateway; SLIPWAY_TOKEN is the caller's
    access token.
    """


@commands.command()
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="folder to create; without it, the name"
)
def init(name: str, folder: Path | None) -> None:
    """Write a project of the model NAME: package that trains and logs it, Model, image, test."""
    target = folder or Path(name)
    for path in create_project(name, target):
        click.echo(f"{target / path}")
    click.echo(f"next: read {target / 'README.md'}")


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", "-m", required=True, help="name of the registered model")
@click.option("--reference", type=_ROWS, help="training rows, CSV or Parquet")
@click.option("--evaluation", type=_ROWS, help="held-out rows, with the column of --target")
@click.option("--target", help="column of the true outputs")
@click.option("--use", help="the intended use, for the model card")
def package(
    file: Path,
    model: str,
    reference: Path | None,
    evaluation: Path | None,
    target: str | None,
    use: str | None,
) -> None:
    """Package a model FILE and register a version on MLflow's server.

    The file is of ONNX, skops, XGBoost (.ubj, .json), LightGBM (.txt) or CatBoost (.cbm). Rows are
    necessary: --reference, --evaluation, or both; the model signature is inferred from them. The
    server is that of MLFLOW_TRACKING_URI.
    """
    import slipway

    log_model = slipway.log_model  # names the extra that is missing
    from slipway.table_file import read_rows

    if (evaluation is None) != (target is None):
        raise WrongParameter("--evaluation: is given without --target, or the reverse; give both")
    rows, held_out = (read_rows(each) if each else None for each in (reference, evaluation))
    if rows is not None and target in rows.columns:
        rows = rows.drop(columns=target)
    pair = None
    if held_out is not None:
        if target not in held_out.columns:
            raise WrongParameter(f"--target: {evaluation} has no column {target!r}")
        pair = (held_out.drop(columns=target), held_out[target])
    version = log_model(file, model, reference=rows, evaluation=pair, use=use)
    click.echo(f"{version}  {version.digest}")


@commands.command()
@click.argument("task")
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="KEY=VALUE",
    help="training parameter; may be repeated",
)
def train(task: str, parameters: tuple[str, ...]) -> None:
    """Train a TASK and register a version on MLflow's server.

    TASK is module:attribute, found from the current folder as well, or the name of an installed
    task. The task declares data, a function that returns a data frame. The server is that of
    MLFLOW_TRACKING_URI.
    """
    given = pairs(parameters)
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
    result = train_frame(declared, parse_parameters(declared, given), connect())
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
    click.echo(f"{declared.name}/{result['version']}  {result['digest']}\n{scores} (held out)")


@commands.command()
@click.option(
    "--file", "-f", "file", required=True, type=click.File(), help="YAML of Models; - is stdin"
)
@click.option(
    "--wait",
    type=click.IntRange(0, 3600),
    default=0,
    metavar="SECONDS",
    help="wait until the Models serve a version; by default, do not wait",
)
def apply(file: Any, wait: int) -> None:
    """Create or replace the Models in a file, as kubectl apply does."""
    manifests = _manifests(file.read(), file.name)
    with Client() as client:
        for manifest in manifests:
            done = "created" if client.declare(manifest) else "configured"
            click.echo(f"model {manifest['metadata']['name']}: {done}")
        for manifest in manifests if wait else ():
            message = client.wait_ready(manifest["metadata"]["name"], wait)
            click.echo(f"model {manifest['metadata']['name']}: {message}")


@commands.command()
@click.argument("name", required=False)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json"]),
    default="table",
    help="form of the result",
)
def get(name: str | None, output: str) -> None:
    """Print the state of the Model NAME, or of all Models that are granted to the caller."""
    with Client() as client:
        if name:
            models = [client.send(operations.get_model, model=name).json()]
        else:
            models = client.send(operations.list_models).json()["models"]
    if output == "json":
        click.echo(json.dumps(models[0] if name else models, indent=1))
        return
    rows = [_COLUMNS, *([_cell(model[column]) for column in _COLUMNS] for model in models)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


@commands.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete the Model NAME; its traffic drains first. Its versions stay in the registry."""
    with Client() as client:
        client.call(operations.delete_model, model=name)
    click.echo(f"model {name}: deletion has started")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _manifests(text: str, name: str) -> list[dict[str, Any]]:
    """Return the Models of a YAML file. Raises WrongParameter for anything else."""
    try:
        found = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        raise WrongParameter(f"{name}: is not YAML: {error}") from None
    if not found:
        raise WrongParameter(f"{name}: has no Model; write one, or create one by slipway init")
    for number, each in enumerate(found, 1):
        if not isinstance(each, dict) or each.get("kind") != "Model":
            kind = each.get("kind") if isinstance(each, dict) else type(each).__name__
            raise WrongParameter(
                f"{name}: document {number} is a {kind}; only Models can be applied through the "
                "gateway, use kubectl apply for others"
            )
        metadata = each.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise WrongParameter(f"{name}: document {number} has no metadata.name; write one")
    return found


def main() -> None:
    """Run a command; an error is one line on stderr, with the exit status of its kind."""
    try:
        commands.main(prog_name="slipway", standalone_mode=False)
    except SlipwayError as error:
        click.echo(f"slipway: {error}", err=True)
        if isinstance(error, ApiError) and error.request_id:
            click.echo(f"request ID: {error.request_id}", err=True)
        sys.exit(error.status)
    except ModuleNotFoundError as error:
        click.echo(f"slipway: {error}", err=True)
        sys.exit(WrongParameter.status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
