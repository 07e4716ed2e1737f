"""The command ``slipway``: a platform from the shell, projects and model files.

Modules of commands import only click. What sends requests is imported when a command runs, so that
help and completion are fast.
"""

import sys
from collections.abc import Sequence

import click

from slipway.cli import access, account, jobs, models, predictions, projects
from slipway.errors import ApiError, SlipwayError, WrongParameter


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """Use a platform: models, predictions, trainings, access. Create projects and package models.

    The platform is that of the profile that slipway login has written, or of SLIPWAY_URL with
    SLIPWAY_TOKEN, or with SLIPWAY_CLIENT_ID and SLIPWAY_CLIENT_SECRET of a service account. Exit
    status: 0 success; 1 failure; 2 wrong usage or configuration; 3 rejected; 4 no result yet; 5 not
    logged in.
    """


for _module in (account, models, predictions, jobs, access, projects):
    for _command in _module.COMMANDS:
        commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error is one line on stderr, with the exit status of its kind."""
    try:
        status = commands.main(arguments, prog_name="slipway", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except SlipwayError as error:
        # Texts of others, such as a model's message, have no control characters here.
        text = "".join(each if each.isprintable() or each == "\n" else " " for each in str(error))
        click.echo(f"slipway: {text}", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
        if isinstance(error, ApiError) and error.request_id:
            click.echo(f"request ID: {error.request_id}", err=True)
        sys.exit(error.status)
    except (ModuleNotFoundError, OSError) as error:
        click.echo(f"slipway: {error}", err=True)
        is_missing = isinstance(error, ModuleNotFoundError)
        sys.exit(WrongParameter.status if is_missing else SlipwayError.status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
