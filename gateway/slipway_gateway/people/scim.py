"""The door to the identity provider's SCIM 2.0 (RFC 7643, RFC 7644), as a client of its own (RFC
6749, section 4.4).
"""

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
"""A token is not used in the last seconds of its life."""


class Scim:
    """All methods raise Unavailable while the provider is away, NotFound, and Conflict with the
    provider's words.
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
        """Every resource of a kind, ``Users`` or ``Groups``, in pages of the provider's size; only
        the named attributes.

        ``whole``: also raise Unavailable when there are fewer than the provider says, or none at
        all.
        """
        start, total = 1, 1
        chosen = f"&attributes={attributes}" if attributes else ""
        while start <= total:
            page = await self._call("GET", f"{kind}?startIndex={start}{chosen}")
            found: list[Resource] = page.get("Resources") or []
            for resource in found:
                yield resource
            if not found:  # it shrank under our hands
                if whole:
                    raise Unavailable(
                        f"the identity provider names {start - 1} of its {kind}, and there "
                        "should be more"
                    )
                return
            start, total = start + len(found), int(page["totalResults"])

    async def one(self, kind: str, key: str) -> Resource:
        return await self._call("GET", f"{kind}/{quote(key, '')}")

    async def create_group(self, name: str, member: str) -> None:
        """A group and its first member, a user's id."""
        content = {"schemas": [GROUP], "displayName": name, "members": [self._member(member)]}
        await self._call("POST", "Groups", content)

    async def patch(self, kind: str, key: str, **operation: Any) -> Resource:
        """One operation of RFC 7644, section 3.5.2: ``op``, ``path``, ``value``."""
        return await self._call(
            "PATCH", f"{kind}/{quote(key, '')}", {"schemas": [PATCH], "Operations": [operation]}
        )

    async def add_member(self, group: str, member: str) -> None:
        await self.patch("Groups", group, op="add", path="members", value=[self._member(member)])

    async def remove_member(self, group: Resource, member: str) -> None:
        """``group`` as it was read, ``member`` as it is named there; Conflict when the group has
        changed since.

        By PUT: Canaille does not know a PATCH of ``members[value eq "..."]``.
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
        """A token that the provider does not take any more is replaced once."""
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
                raise Unavailable("the identity provider has not said where clients log in")
            url, inside = self._keys.reachable(self._keys.token_endpoint)
            headers = {
                **inside,
                "authorization": self._login,
                "content-type": "application/x-www-form-urlencoded",
            }
            status, answer = await self._send(
                "POST", url, headers, b"grant_type=client_credentials"
            )
            said = _json(answer)
            if status != 200 or not isinstance(said.get("access_token"), str):
                raise Unavailable(
                    "the identity provider does not log the gateway in: "
                    f"{said.get('error', status)}"
                )
            self._token = said["access_token"]
            self._token_ends = time.monotonic() + float(said.get("expires_in", 60)) - EARLY_SECONDS
        return self._token

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        try:
            return await self._upstream.send(method, url, headers, body)
        except OSError as error:
            raise Unavailable(f"the identity provider is away: {error}") from None


def _json(content: bytes) -> Resource:
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _read(method: str, path: str, status: int, content: bytes) -> Resource:
    said = _json(content)
    if status in (200, 201, 204):
        return said
    if status == 404:
        raise NotFound(f"the identity provider has no {path}")
    if status in (400, 409, 412):
        raise Conflict(f"the identity provider refuses it: {said.get('detail', status)}")
    raise Unavailable(
        f"the identity provider answers {status} to {method} {path.partition('?')[0]}"
    )
