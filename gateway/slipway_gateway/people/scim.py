"""A SCIM 2.0 client (RFC 7643, RFC 7644) with client credentials (RFC 6749, section 4.4)."""

import base64
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import orjson

from slipway_gateway.errors import Conflict, NotFound, Unavailable
from slipway_gateway.http.upstream import Upstream
from slipway_gateway.identity.keys import IssuerKeys

Resource = dict[str, Any]
"""A SCIM resource, as JSON."""

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
EARLY_SECONDS = 30.0
"""Seconds before its expiry at which a token is replaced."""


class Scim:
    """A client of the identity provider's SCIM service.

    All methods raise Unavailable, NotFound, and Conflict with the detail of the provider.
    """

    def __init__(
        self, upstream: Upstream, keys: IssuerKeys, url: str, client_id: str, secret: str
    ) -> None:
        self._upstream = upstream
        self._keys = keys
        self._url = url
        self._login = (
            "Basic "
            + base64.b64encode(f"{quote(client_id, '')}:{quote(secret, '')}".encode()).decode()
        )
        self._token = ""
        self._token_ends = 0.0

    async def all(
        self, kind: str, attributes: str | None = None, *, whole: bool = False
    ) -> AsyncIterator[Resource]:
        """Yield every resource of a kind, ``Users`` or ``Groups``, page by page.

        ``attributes``: comma-separated names of the attributes to return. ``whole``: raise
        Unavailable if the provider returns fewer resources than its total, or none.
        """
        start, total = 1, 1
        chosen = f"&attributes={attributes}" if attributes else ""
        while start <= total:
            page = await self._call("GET", f"{kind}?startIndex={start}{chosen}")
            found: list[Resource] = page.get("Resources") or []
            for resource in found:
                yield resource
            if not found:  # resources may be deleted between two pages
                if whole:
                    raise Unavailable(
                        f"the identity provider returned an incomplete list: {start - 1} {kind}"
                    )
                return
            start, total = start + len(found), int(page["totalResults"])

    async def one(self, kind: str, key: str) -> Resource:
        return await self._call("GET", f"{kind}/{quote(key, '')}")

    async def create_group(self, name: str, member: str) -> None:
        """Create a group; ``member`` is the SCIM id of its first member."""
        content = {"schemas": [GROUP], "displayName": name, "members": [self._member(member)]}
        await self._call("POST", "Groups", content)

    async def patch(self, kind: str, key: str, **operation: Any) -> Resource:
        """Apply one operation (RFC 7644, section 3.5.2) with ``op``, ``path`` and ``value``."""
        return await self._call(
            "PATCH", f"{kind}/{quote(key, '')}", {"schemas": [PATCH], "Operations": [operation]}
        )

    async def add_member(self, group: str, member: str) -> None:
        await self.patch("Groups", group, op="add", path="members", value=[self._member(member)])

    async def remove_member(self, group: Resource, member: str) -> None:
        """Remove the member with the identifier ``member`` from ``group``, as the provider sent it.

        Uses PUT, because Canaille does not support PATCH with ``members[value eq "..."]``. Raises
        Conflict if the group has changed since.
        """
        left = [each for each in group["members"] if each["value"] != member]
        content = {"schemas": [GROUP], "displayName": group["displayName"], "members": left}
        version = (group.get("meta") or {}).get("version")
        await self._call(
            "PUT",
            f"Groups/{quote(group['id'], '')}",
            content,
            {"if-match": version} if version else {},
        )

    async def delete(self, kind: str, key: str) -> None:
        await self._call("DELETE", f"{kind}/{quote(key, '')}")

    def _member(self, user: str) -> Resource:
        return {"value": user, "$ref": f"{self._url}/Users/{quote(user, '')}"}

    async def _call(
        self,
        method: str,
        path: str,
        content: Resource | None = None,
        further: Mapping[str, str] = MappingProxyType({}),
    ) -> Resource:
        """Send a request and return its JSON; after 401, retry once with a new token."""
        url, inside = self._keys.reachable(f"{self._url}/{path}")
        body = orjson.dumps(content) if content is not None else None
        for attempt in (1, 2):
            headers = {
                **inside,
                **further,
                "authorization": f"Bearer {await self._bearer()}",
                "accept": "application/scim+json",
            }
            if body is not None:
                headers["content-type"] = "application/scim+json"
            status, answer = await self._send(method, url, headers, body)
            if status != 401 or attempt == 2:
                return _read(method, path, status, answer)
            self._token = ""
        raise AssertionError("the second attempt returns")

    async def _bearer(self) -> str:
        if not self._token or time.monotonic() >= self._token_ends:
            if self._keys.token_endpoint is None:
                raise Unavailable(
                    "the token endpoint of the identity provider is not known yet; retry later"
                )
            url, inside = self._keys.reachable(self._keys.token_endpoint)
            headers = {
                **inside,
                "authorization": self._login,
                "content-type": "application/x-www-form-urlencoded",
            }
            status, answer = await self._send(
                "POST", url, headers, b"grant_type=client_credentials"
            )
            body = _json(answer)
            if status != 200 or not isinstance(body.get("access_token"), str):
                raise Unavailable(
                    "the identity provider rejects the gateway's client credentials: "
                    f"{body.get('error', status)}"
                )
            self._token = body["access_token"]
            self._token_ends = time.monotonic() + float(body.get("expires_in", 60)) - EARLY_SECONDS
        return self._token

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        try:
            return await self._upstream.send(method, url, headers, body)
        except OSError as error:
            raise Unavailable(f"the identity provider is unavailable: {error}") from None


def _json(content: bytes) -> Resource:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _read(method: str, path: str, status: int, content: bytes) -> Resource:
    """Return the JSON of a response. Raises NotFound, Conflict, Unavailable."""
    body = _json(content)
    if status in (200, 201, 204):
        return body
    if status == 404:
        raise NotFound(f"the identity provider has no {path}")
    if status in (400, 409, 412):
        raise Conflict(f"the identity provider rejects the change: {body.get('detail', status)}")
    raise Unavailable(
        f"the identity provider returned {status} for {method} {path.partition('?')[0]}"
    )
