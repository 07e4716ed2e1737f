"""Commands of logins and profiles."""

import os
from typing import Any

import click

from slipway.cli.platform import client, details, on_platform, output, progress, show
from slipway.errors import WrongParameter


@click.command()
@click.argument("url", required=False)
@click.option("--profile", metavar="NAME", help="name of the profile; by default, host and port")
@click.option("--issuer", metavar="URL", help="identity provider; by default, the gateway names it")
@click.option("--client", "client_id", metavar="ID", help="public OAuth client of the CLI")
@click.option("--no-browser", is_flag=True, help="print the address, and ask for the redirect's")
def login(
    url: str | None,
    profile: str | None,
    issuer: str | None,
    client_id: str | None,
    no_browser: bool,
) -> None:
    """Log in to the platform at URL with a browser, and make it the current one.

    Without URL, log in again to a profile. The browser must be on this machine, where the command
    listens on port 47115; with --no-browser it can be on any, and you paste the address to which
    the browser was redirected. Access tokens are renewed as long as the provider allows it.
    """
    from slipway import login as logins
    from slipway import profile as profiles

    if url is None:
        found = profiles.chosen(profile)
        if found is None:
            raise WrongParameter("URL: is missing; give the URL of the gateway")
    else:
        address = url.rstrip("/")
        logins.check_address(address, "URL")
        issuer, client_id = logins.discovered(address, issuer, client_id)
        found = profiles.Profile(profile or profiles.name_of(address), address, issuer, client_id)
    profiles.check(found)
    answer = logins.log_in(found, _show(no_browser), _paste if no_browser else None)
    profiles.save(found, current=True)
    profiles.store_tokens(found.name, answer)
    click.echo(f"logged in to {found.url} (profile {found.name})")
    if variable := _used_instead(found.name):
        progress(
            f"{variable} is set and is used in place of this login; unset it, or give "
            f"--profile {found.name}"
        )


def _used_instead(profile: str) -> str | None:
    """Return the variable that a command without --profile uses in place of this profile."""
    given = os.environ.get
    if named := given("SLIPWAY_PROFILE"):
        return None if named == profile else "SLIPWAY_PROFILE"
    if given("SLIPWAY_TOKEN"):
        return "SLIPWAY_TOKEN"
    has_account = given("SLIPWAY_CLIENT_ID") and given("SLIPWAY_CLIENT_SECRET")
    return "SLIPWAY_CLIENT_SECRET" if has_account else None


def _show(no_browser: bool) -> Any:
    def show_page(page: str) -> None:
        progress(f"open this address in a browser and log in:\n{page}")
        if not no_browser:
            import webbrowser

            webbrowser.open(page)

    return show_page


def _paste() -> str:
    progress("the browser ends at an address of 127.0.0.1, which it may be unable to open")
    return str(click.prompt("that address", err=True))


@click.command()
@click.option("--profile", metavar="NAME", help="profile, by default the current one")
def logout(profile: str | None) -> None:
    """Delete the tokens of a profile from this machine."""
    from slipway import profile as profiles

    found = profiles.chosen(profile)
    if found is None:
        raise WrongParameter("profile: there is none; nothing was deleted")
    profiles.store_tokens(found.name, None)
    click.echo(f"logged out of {found.url} (profile {found.name})")


@click.command()
@on_platform
@output
def whoami(profile: str | None, curl: bool, form: str) -> None:
    """Print the caller: subject, groups, roles, and the end of the token."""
    from slipway import operations

    with client(profile, curl) as platform:
        details(form, platform.send(operations.get_me).json(), "subject")


@click.command()
@output
def profiles(form: str) -> None:
    """List the profiles."""
    from slipway import profile

    known, current = profile.profiles()
    rows = [
        {
            "name": each.name,
            "current": each.name == current,
            "url": each.url,
            "loggedIn": profile.stored(each.name) is not None,
            "issuer": each.issuer,
            "client": each.client,
        }
        for each in known.values()
    ]
    show(form, rows, rows, ("name", "current", "url", "loggedIn"), ("issuer", "client"))


COMMANDS = (login, logout, whoami, profiles)
