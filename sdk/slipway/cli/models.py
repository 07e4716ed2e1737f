"""Commands of models: read, declare, promote, roll back."""

from typing import Any

import click

from slipway.cli.platform import (
    all_pages,
    client,
    details,
    on_platform,
    output,
    progress,
    rows_of,
    show,
)
from slipway.errors import Refused, SlipwayError, WrongParameter

COLUMNS = ("name", "ready", "version", "message")


def list_models(form: str, profile: str | None, curl: bool) -> None:
    """Print the models that are granted to the caller."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.list_models).json()
    show(form, answer, rows_of(answer, "models"), COLUMNS, ("owner", "verified", "digest"))


@click.command()
@on_platform
@output
def models(profile: str | None, curl: bool, form: str) -> None:
    """List the models that are granted to you, with their live versions."""
    list_models(form, profile, curl)


@click.command()
@click.argument("name")
@on_platform
@output
def model(name: str, profile: str | None, curl: bool, form: str) -> None:
    """Print the state of the model NAME, and its inputs and outputs."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = platform.send(operations.get_model, model=name).json()
    if form in ("json", "csv", "name"):
        details(form, answer, "name")
        return
    signature = answer.pop("signature") or {"inputs": [], "outputs": []}
    details(form, {k: v for k, v in answer.items() if not isinstance(v, list | dict)}, "name")
    columns = ("name", "datatype", "shape", "unit", "minimum", "maximum")
    for kind in ("inputs", "outputs"):
        click.echo(f"\n{kind}")
        show(form, None, signature[kind], columns)


@click.command()
@click.argument("name")
@on_platform
@output
def versions(name: str, profile: str | None, curl: bool, form: str) -> None:
    """List the versions of the model NAME, with their aliases and scores."""
    from slipway import operations

    with client(profile, curl) as platform:
        answer = all_pages(platform, operations.list_versions, "versions", model=name)
    columns = ("version", "aliases", "role", "percent", "createdAt", "verified")
    wide = ("digest", "format", "metrics", "runId", "gitRevision", "createdBy")
    show(form, answer, rows_of(answer, "versions"), columns, wide)


@click.command()
@click.argument("name", required=False)
@on_platform
@output
def get(name: str | None, profile: str | None, curl: bool, form: str) -> None:
    """Print the state of the Model NAME, or of all Models that are granted to the caller."""
    from slipway import operations

    if name is None:
        list_models(form, profile, curl)
        return
    with client(profile, curl) as platform:
        answer = platform.send(operations.get_model, model=name).json()
    show(form, answer, [answer], COLUMNS, ("owner", "verified", "digest"))


@click.command()
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
@on_platform
def apply(file: Any, wait: int, profile: str | None, curl: bool) -> None:
    """Create or replace the Models in a file, as kubectl apply does."""
    manifests = _manifests(file.read(), file.name)
    with client(profile, curl) as platform:
        for manifest in manifests:
            done = "created" if platform.declare(manifest) else "configured"
            click.echo(f"model {manifest['metadata']['name']}: {done}")
        for manifest in manifests if wait else ():
            message = platform.wait_ready(manifest["metadata"]["name"], wait)
            click.echo(f"model {manifest['metadata']['name']}: {message}")


@click.command()
@click.argument("name")
@on_platform
def delete(name: str, profile: str | None, curl: bool) -> None:
    """Delete the Model NAME; its traffic drains first. Its versions stay in the registry."""
    from slipway import operations

    with client(profile, curl) as platform:
        platform.call(operations.delete_model, model=name)
    click.echo(f"model {name}: deletion has started")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--dry-run", is_flag=True, help="ask the gate, change nothing")
@click.option(
    "--wait",
    type=click.IntRange(0, 86400),
    default=600,
    metavar="SECONDS",
    help="wait for the gate; 0 does not wait",
)
@on_platform
@output
def promote(
    name: str,
    version: str,
    dry_run: bool,
    wait: int,
    profile: str | None,
    curl: bool,
    form: str,
) -> None:
    """Promote VERSION of the model NAME through the gate, which compares it with the live one.

    The exit status is 3 when the gate refuses it or cannot decide.
    """
    from slipway import operations

    with client(profile, curl) as platform:
        promotion = platform.promote(name, version, dry_run=dry_run)
        if wait:
            progress(f"promotion {promotion.promotion_id}: waiting for the gate")
            promotion = platform.wait(promotion, wait)
        answer = platform.send(
            operations.get_promotion, model=name, job=promotion.promotion_id
        ).json()
    result = answer["result"] or {}
    state = result.get("state", answer["state"])
    row = {"promotionId": answer["promotionId"], "state": state, "reason": result.get("reason")}
    row["reason"] = row["reason"] or answer["reason"]
    show(form, answer, [row], ("promotionId", "state", "reason"))
    if state in ("refused", "undecided"):
        raise Refused(f"version {version} of {name} is not promoted: the gate answers {state}")
    if answer["state"] == "failed":
        raise SlipwayError(f"promotion {answer['promotionId']} failed: {answer['reason']}")


@click.command()
@click.argument("name")
@click.option("--reason", required=True, help="reason for the audit record")
@click.option("--version", help="version that is to serve; by default, the former one")
@on_platform
@output
def rollback(
    name: str, reason: str, version: str | None, profile: str | None, curl: bool, form: str
) -> None:
    """Serve a former version of the model NAME again, without the gate."""
    from slipway import operations

    body = {"reason": reason, **({"version": version} if version else {})}
    with client(profile, curl) as platform:
        answer = platform.send(operations.create_rollback, model=name, body=body).json()
    show(form, answer, [answer], ("model", "version", "state", "message"))


def _manifests(text: str, name: str) -> list[dict[str, Any]]:
    """Return the Models of a YAML file. Raises WrongParameter for anything else."""
    import yaml

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


COMMANDS = (models, model, versions, get, apply, delete, promote, rollback)
