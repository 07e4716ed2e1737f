"""Options and output of commands that use a platform."""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from slipway.client import Client

FORMS = ("table", "wide", "json", "csv", "name")


def on_platform(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the platform and show the request."""
    command = click.option("--curl", is_flag=True, help="print the request as curl, send nothing")(
        command
    )
    return click.option("--profile", metavar="NAME", help="platform, by default the current one")(
        command
    )


output = click.option(
    "--output", "-o", "form", type=click.Choice(FORMS), default="table", help="form of the result"
)
"""The option for the form of a result."""


def client(profile: str | None, curl: bool) -> "Client":
    """Return the client of the chosen platform, or one that prints its first request."""
    from slipway.cli.curl import CurlClient
    from slipway.client import Client

    return (CurlClient if curl else Client)(profile=profile)


def show(
    form: str,
    answer: Any,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    wide: Sequence[str] = (),
) -> None:
    """Print rows in a form; ``answer`` is the JSON of the API, and the first column is the name."""
    shown = [*columns, *(wide if form in ("wide", "csv") else ())]
    if form == "json":
        click.echo(json.dumps(answer, indent=1, ensure_ascii=False))
    elif form == "name":
        for row in rows:
            click.echo(cell(row.get(columns[0])))
    elif form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(shown)
        writer.writerows([_raw(row.get(each)) for each in shown] for row in rows)
        click.echo(text.getvalue(), nl=False)
    else:
        table([heading(each) for each in shown], [[cell(r.get(c)) for c in shown] for r in rows])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        text = "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 and colour() else text)


def details(form: str, answer: Mapping[str, Any], name: str) -> None:
    """Print one object: its fields as lines, or as JSON."""
    if form in ("json", "csv", "name"):
        show(form, answer, [answer], [name], [each for each in answer if each != name])
        return
    width = max(map(len, answer))
    for key, value in answer.items():
        click.echo(f"{key:<{width}}  {cell(value)}")


def colour() -> bool:
    """Return whether the output is a terminal that may have colours."""
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def heading(name: str) -> str:
    """Return the heading of a field of the API: requestId is REQUEST ID."""
    return "".join(f" {c}" if c.isupper() else c for c in name).upper()


def cell(value: object) -> str:
    """Return a value on one line, without control characters, which a terminal would obey."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else " " for c in text)


def _raw(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def progress(text: str) -> None:
    """Print a line about what the command does or waits for."""
    click.echo(text, err=True)


def rows_of(listing: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    found: list[dict[str, Any]] = listing[key]
    return found


def all_pages(platform: "Client", operation: Any, key: str, **given: Any) -> dict[str, Any]:
    """Return a list of the API with the objects of all its pages."""
    from dataclasses import replace

    first, *others = platform.pages(replace(operation, returns=dict), **given)
    for page in others:
        first[key] += page[key]
    return {**first, "nextCursor": None}
