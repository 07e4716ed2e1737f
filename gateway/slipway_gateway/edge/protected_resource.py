"""OAuth metadata of the API (RFC 9728): where a client without a token gets one.

A 401 names the document. Its URL is that of the request, because the gateway does not know the
address by which its callers reach it.
"""

import re

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.types import Scope

from slipway_gateway.access.route import PROBLEMS, Router
from slipway_gateway.access.rules import PUBLIC, Permission
from slipway_gateway.errors import BadRequest, Headers
from slipway_gateway.http.addresses import Networks, is_from_proxy

PATH = "/.well-known/oauth-protected-resource"
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class ProtectedResource(BaseModel):
    """Metadata of a protected resource (RFC 9728)."""

    resource: str = Field(description="URL of the API, as this request names it")
    authorization_servers: list[str] = Field(description="issuers of access tokens")
    bearer_methods_supported: list[str]
    resource_name: str
    resource_documentation: str
    slipway_cli_client_id: str = Field(
        description="public OAuth client of command lines (authorization code, PKCE)"
    )


class ResourceMetadata:
    """The route of the metadata."""

    def __init__(self, issuer: str, cli_client: str, proxies: Networks) -> None:
        self._issuer = issuer
        self._cli_client = cli_client
        self._proxies = proxies

    def router(self) -> Router:
        router = Router(responses=PROBLEMS, tags=["account"])
        router.add(
            f"GET {PATH}",
            self.get_protected_resource,
            Permission("discover", PUBLIC),
            summary="Return where to get an access token",
        )
        return router

    async def get_protected_resource(self, request: Request) -> ProtectedResource:
        origin = origin_of(request.scope, self._proxies)
        if origin is None:
            raise BadRequest("the request has no valid Host header")
        return ProtectedResource(
            resource=origin,
            authorization_servers=[self._issuer],
            bearer_methods_supported=["header"],
            resource_name="Slipway",
            resource_documentation=f"{origin}/v1/docs",
            slipway_cli_client_id=self._cli_client,
        )


def origin_of(scope: Scope, proxies: Networks) -> str | None:
    """Return scheme and host of a request; None without a valid ``Host``.

    The scheme in ``X-Forwarded-Proto`` counts if a trusted proxy has sent it.
    """
    headers: dict[bytes, bytes] = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1")
    if not HOST.fullmatch(host):
        return None
    forwarded = headers.get(b"x-forwarded-proto", b"").strip().lower()
    if forwarded in (b"http", b"https") and is_from_proxy(scope, proxies):
        return f"{forwarded.decode()}://{host}"
    return f"{scope['scheme']}://{host}"


def with_metadata(headers: Headers, scope: Scope, proxies: Networks) -> Headers:
    """Return the headers of a 401 with the URL of the metadata in the challenge."""
    origin = origin_of(scope, proxies)
    if origin is None:
        return headers
    found = f', resource_metadata="{origin}{PATH}"'.encode()
    return [
        (name, value + found if name == b"www-authenticate" else value) for name, value in headers
    ]
