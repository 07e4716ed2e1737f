"""The command ``slipway``, from its click commands."""

from collections.abc import Iterator

import click
from slipway.cli import commands

from docs.generator.markdown import line, prose, table


def page() -> str:
    """Return the page of all commands with their arguments."""
    lines = ["# The command slipway", "", prose(commands.help or "")]
    for name, command in sorted(commands.commands.items()):
        usage = " ".join(command.collect_usage_pieces(click.Context(command)))
        lines += ["", f"## slipway {name}", "", prose(command.help or "")]
        lines += ["", "```text", f"slipway {name} {usage}", "```", "", *_table(command)]
    return "\n".join(lines)


def _table(command: click.Command) -> list[str]:
    rows = list(_rows(command))
    return table(("option", "default", "meaning"), rows) if rows else []


def _rows(command: click.Command) -> Iterator[tuple[str, str, str]]:
    for each in command.params:
        if not isinstance(each, click.Option):
            continue
        takes = "" if each.is_flag else f" {each.make_metavar(click.Context(command))}"
        names = ", ".join(f"`{name}{takes}`" for name in each.opts)
        default = f"`{each.default}`" if isinstance(each.default, str) else "not set"
        yield names, "required" if each.required else default, line(each.help or "")
