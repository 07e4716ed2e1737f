"""Commands of predictions: predict, label, receipt, tasks."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from slipway.cli.platform import (
    client,
    details,
    on_platform,
    output,
    progress,
    rows_of,
    show,
)
from slipway.errors import SlipwayError, WrongParameter
from slipway.options import pairs

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@click.command()
@click.argument("model")
@click.argument("values", nargs=-1, metavar="[FILE | KEY=VALUE …]")
@click.option(
    "--row", "row", multiple=True, metavar="KEY=VALUE", help="an input; more pairs may follow"
)
@click.option("--example", is_flag=True, help="predict the version's own example")
@click.option("--top", type=click.IntRange(1, 1000), help="number of most probable classes")
@click.option("--async", "later", is_flag=True, help="store the prediction as a task")
@on_platform
@output
def predict(
    model: str,
    values: tuple[str, ...],
    row: tuple[str, ...],
    example: bool,
    top: int | None,
    later: bool,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Predict one row, the rows of a CSV file, or the model's example.

    Values have the datatypes of the model's inputs: numbers, text, or JSON lists. An empty cell is
    a missing value. The IDs of the requests go to stderr; slipway label and slipway receipt use
    them.
    """
    file = values[0] if len(values) == 1 and "=" not in values[0] and not row else None
    if sum((bool(row or values), example)) != 1:
        raise WrongParameter("row: give one of --row KEY=VALUE …, a CSV file, or --example")
    with client(profile, curl) as platform:
        known = {} if curl and not example else _model(platform, model)
        if example:
            rows = known.get("example") or []
            if not rows:
                raise WrongParameter(f"--example: the live version of {model} has none; give rows")
        else:
            texts = _table(Path(file)) if file else [pairs((*row, *values), "--row")]
            rows = [_typed(each, known.get("signature") or {}) for each in texts]
        if later:
            task = platform.submit(model, rows)
            show(form, {"taskId": task}, [{"taskId": task}], ["taskId"])
            progress(f"slipway task {task} shows the result")
            return
        answers = platform.predict(model, rows, top=top)
    import msgspec

    found = msgspec.to_builtins(answers)
    lines = [
        {**each, "requestId": answer["requestId"]}
        for answer in found
        for each in answer["predictions"]
    ]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    if form in ("table", "wide"):
        columns.remove("requestId")
        for answer in found:
            progress(f"request ID: {answer['requestId']}  version {answer['version']}")
    elif form == "name":
        columns = ["requestId"]
    show(form, found[0] if len(found) == 1 else found, lines, columns)


def _model(platform: Any, model: str) -> dict[str, Any]:
    from slipway import operations

    found: dict[str, Any] = platform.send(operations.get_model, model=model).json()
    return found


def _table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file. Raises WrongParameter."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise WrongParameter(f"{path}: cannot be read as CSV: {error}; give a CSV file") from error
    if not rows:
        raise WrongParameter(f"{path}: has no rows; the first line has the names of the inputs")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise WrongParameter(f"{path}: line {number} has another number of cells than line 1")
    return rows


def _typed(row: Mapping[str, str], signature: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of texts in the datatypes of the inputs, as far as JSON has them."""
    types = {each["name"]: each.get("datatype") for each in signature.get("inputs", ())}
    found: dict[str, Any] = {}
    for name, text in row.items():
        kind = types.get(name)
        boolean = _BOOLEANS.get(text.strip().lower()) if kind == "BOOL" else None
        found[name] = text if kind == "BYTES" else _value(text) if boolean is None else boolean
    return found


def _outcome(text: str) -> Any:
    """Return a list or a quoted text of JSON, None for an empty text, else the text.

    The gateway converts a text to the datatype of the output.
    """
    text = text.strip()
    return _value(text) if not text or text[0] in '["' else text


def _value(text: str) -> Any:
    """Return the JSON value of a text, None for an empty one, else the text."""
    if not text.strip():
        return None
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(text: str) -> Any:
    """Reject NaN and Infinity, which are not JSON: the gateway names the input."""
    raise ValueError(text)


class _Negative(click.Command):
    """A command whose arguments may be negative numbers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments; with a space before it, a number is no option."""
        given = [f" {each}" if re.match(r"-\.?\d", each) else each for each in args]
        return super().parse_args(ctx, given)


@click.command(cls=_Negative)
@click.argument("source", metavar="ID | FILE")
@click.argument("value", required=False)
@click.option("--comment", help="a comment on the outcome")
@on_platform
def label(
    source: str, value: str | None, comment: str | None, profile: str | None, curl: bool
) -> None:
    """Submit the true outcome VALUE of the prediction ID, or those of a CSV file.

    VALUE is a number, a text or, for several rows, a JSON list. The file has the columns requestId
    and label; rows of one request follow one another.
    """
    if value is None:
        rows = _table(Path(source))
        if missing := {"requestId", "label"} - rows[0].keys():
            raise WrongParameter(f"{source}: has no column {min(missing)}; it is necessary")
        ids, values = [each["requestId"] for each in rows], [_outcome(e["label"]) for e in rows]
    else:
        ids, values = [source], [_outcome(value)]
    with client(profile, curl) as platform:
        answers = platform.label(ids, values, comment)
    click.echo(f"labelled {len(answers)} predictions")


@click.command()
@click.argument("request_id", metavar="ID")
@on_platform
@output
def receipt(request_id: str, profile: str | None, curl: bool, form: str) -> None:
    """Print the receipt of a prediction: version, run, data, caller, input and output."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.get_receipt, request_id=request_id).json()
    details(form, answer, "requestId")


@click.command()
@click.option("--state", help="only tasks in this state")
@click.option("--all", "every", is_flag=True, help="tasks of all callers, for admins")
@click.option("--limit", type=click.IntRange(1), help="number of tasks")
@on_platform
@output
def tasks(
    state: str | None,
    every: bool,
    limit: int | None,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """List your asynchronous predictions, newest first."""
    from slipway import operations

    given = {"state": state, "limit": limit, "all": every or None}
    with client(profile, curl) as platform:
        answer = platform.send(operations.list_tasks, **given).json()
    columns = ("taskId", "model", "state", "created", "error")
    wide = ("priority", "attempts", "caller", "requestId", "finished", "expires")
    show(form, answer, rows_of(answer, "tasks"), columns, wide)


@click.command()
@click.argument("task_id", metavar="ID")
@click.option(
    "--wait", type=click.IntRange(0, 86400), default=0, metavar="SECONDS", help="wait for the end"
)
@on_platform
@output
def task(task_id: str, wait: int, profile: str | None, curl: bool, form: str) -> None:
    """Print an asynchronous prediction and its result."""
    from slipway import operations

    with client(profile, curl) as platform:
        if wait:
            platform.wait_task(task_id, wait)
        answer = platform.send(operations.get_task, task_id=task_id).json()
    details(form, answer, "taskId")
    if answer["state"] in ("failed", "dead"):
        raise SlipwayError(f"task {task_id} is {answer['state']}: {answer['error']}")


COMMANDS = (predict, label, receipt, tasks, task)
