"""Commands of administration: grants, usage, audit."""

import click

from slipway.cli.platform import client, on_platform, output, progress, rows_of, show

GRANT = ("grantId", "grantee", "models", "policy", "expires")


@click.command()
@click.argument("grantee")
@click.argument("models")
@click.option("--policy", default="default", help="policy with the limits")
@click.option("--expires", metavar="TIME", help="end of the grant, as 2027-01-31T00:00:00Z")
@on_platform
@output
def grant(
    grantee: str,
    models: str,
    policy: str,
    expires: str | None,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Grant the use of MODELS, a name or a glob, to a GRANTEE.

    The grantee is user:SUBJECT, group:NAME or client:ID; without a prefix, it is a user.
    """
    from slipway import operations

    body = {"grantee": grantee if ":" in grantee else f"user:{grantee}", "models": models}
    body |= {"policy": policy, **({"expires": expires} if expires else {})}
    with client(profile, curl) as platform:
        answer = platform.send(operations.create_grant, body=body).json()
    show(form, answer, [answer], GRANT)


@click.command()
@click.option("--grantee", help="only those of this user, group or client")
@on_platform
@output
def grants(grantee: str | None, profile: str | None, curl: bool, form: str) -> None:
    """List all grants."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.list_grants, grantee=grantee).json()
    show(form, answer, rows_of(answer, "grants"), GRANT, ("created",))


@click.command()
@click.argument("grant_id", metavar="ID")
@on_platform
def revoke(grant_id: str, profile: str | None, curl: bool) -> None:
    """Delete a grant."""
    from slipway import operations

    with client(profile, curl) as platform:
        platform.call(operations.delete_grant, grant_id=grant_id)
    click.echo(f"grant {grant_id}: deleted")


@click.command()
@click.option("--subject", help="caller; by default, you")
@click.option("--first", metavar="DAY", help="first day, as 2026-12-01")
@click.option("--last", metavar="DAY", help="last day")
@on_platform
@output
def usage(
    subject: str | None,
    first: str | None,
    last: str | None,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Print the number of predictions by day and policy."""
    from slipway import operations

    given = {"subject": subject, "first": first, "last": last}
    with client(profile, curl) as platform:
        answer = platform.send(operations.get_usage, **given).json()
    show(form, answer, rows_of(answer, "entries"), ("day", "policy", "requests"))


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, help="number of entries")
@on_platform
@output
def audit(limit: int, profile: str | None, curl: bool, form: str) -> None:
    """List changes and their authors, newest first."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.list_audit_entries, limit=limit).json()
    if len(answer["entries"]) == limit:
        progress(f"the newest {limit} entries; --limit prints more")
    columns = ("number", "time", "subject", "action", "thing")
    show(form, answer, rows_of(answer, "entries"), columns, ("address", "requestId", "detail"))


COMMANDS = (grant, grants, revoke, usage, audit)
