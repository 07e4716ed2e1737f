"""Commands of the Jobs, from the parser of ``python -m slipway_jobs``."""

import argparse
from collections.abc import Iterator
from functools import partial

from slipway_jobs.command import EXIT_STATUSES, parser

from docs.generator.markdown import line, prose, table


def page() -> str:
    """Return the page of all commands with their arguments."""
    top = parser()
    lines = [
        "# Job commands",
        "",
        prose(top.description or ""),
        "",
        "```text",
        EXIT_STATUSES.strip(),
        "```",
    ]
    for name, (command, what) in commands(top).items():
        usage = _usage(command)
        lines += [
            "",
            f"## {name}",
            "",
            f"{prose(what)}.",
            "",
            "```text",
            usage,
            "```",
            "",
            *_table(command),
        ]
    return "\n".join(lines)


def commands(top: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return each command with its parser and its meaning. argparse has no public way to list
    them.
    """
    (chosen,) = [each for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    meanings = {each.dest: each.help or "" for each in chosen._choices_actions}
    return {name: (command, meanings[name]) for name, command in chosen.choices.items()}


def _usage(command: argparse.ArgumentParser) -> str:
    """Return the usage line, of the same width everywhere."""
    command.formatter_class = partial(argparse.HelpFormatter, width=110)
    return command.format_usage().strip()


def _table(command: argparse.ArgumentParser) -> list[str]:
    return table(("argument", "default", "meaning"), _rows(command))


def _rows(command: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for each in command._actions:
        if isinstance(each, argparse._HelpAction):
            continue
        name = each.option_strings[0] if each.option_strings else each.dest
        takes = (
            f" {each.metavar or each.dest.upper()}"
            if each.option_strings and each.nargs != 0
            else ""
        )
        choices = (
            f"; one of {', '.join(f'`{choice}`' for choice in each.choices)}"
            if each.choices
            else ""
        )
        yield f"`{name}{takes}`", _default(each), line((each.help or "") % vars(each)) + choices


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    return "not set" if action.default in (None, False, [], "") else f"`{action.default}`"
