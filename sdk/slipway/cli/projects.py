"""Commands of projects and model files."""

from pathlib import Path

import click

from slipway.errors import WrongParameter

_ROWS = click.Path(path_type=Path)


@click.command()
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="folder to create; without it, the name"
)
def init(name: str, folder: Path | None) -> None:
    """Write a project of the model NAME: package that trains and logs it, Model, image, test."""
    from slipway.project import create_project

    target = folder or Path(name)
    for path in create_project(name, target):
        click.echo(f"{target / path}")
    click.echo(f"next: read {target / 'README.md'}")


@click.command()
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


COMMANDS = (init, package)
