"""The option ``--curl``: the request of a command, for a shell."""

import shlex
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from slipway.client import Client
from slipway.exchange import Flow, Request

T = TypeVar("T")


class CurlClient(Client):
    """A client that prints its first request without the token, and ends the command."""

    def _run(self, flow: Flow[T]) -> T:
        step = next(flow)
        if isinstance(step, Request):
            click.echo(curl(self.url, step))
        raise click.exceptions.Exit(0)


def curl(url: str, request: Request) -> str:
    """Return a request as a command that reads the token from ``SLIPWAY_TOKEN``."""
    query = f"?{urlencode(request.query)}" if request.query else ""
    parts = ["curl", "-sS", shlex.quote(f"{url}{request.path}{query}")]
    if request.method != "GET":
        parts += ["-X", request.method]
    parts += ["-H", '"Authorization: Bearer $SLIPWAY_TOKEN"']
    for name, value in request.headers.items():
        parts += ["-H", shlex.quote(f"{name}: {value}")]
    if request.content is not None:
        parts += ["--data-raw", shlex.quote(request.content.decode())]
    for name, file in (request.files or {}).items():
        parts += ["-F", shlex.quote(f"{name}=@{_path(file)}")]
    return " ".join(parts)


def _path(file: Any) -> str:
    return str(file[0] if isinstance(file, tuple) else getattr(file, "name", "FILE"))
