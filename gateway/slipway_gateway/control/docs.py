"""Swagger UI under ``/v1/docs``, from packaged files, without external or inline scripts."""

import base64
import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_oauth2_redirect_html

from slipway_gateway.access.route import Router
from slipway_gateway.access.rules import PUBLIC, Permission
from slipway_gateway.errors import NotFound
from slipway_gateway.http.coding import preferred

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Slipway</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
</head>
<body>
<div id="page"></div>
<script src="{swagger}"></script>
<script src="{script}" data-client="{client}"></script>
</body>
</html>
"""


@dataclass(frozen=True)
class Asset:
    """A file of the page, read on its first request."""

    file: Traversable
    content_type: str

    @cached_property
    def content(self) -> bytes:
        return self.file.read_bytes()

    @cached_property
    def packed(self) -> bytes:
        return gzip.compress(self.content, mtime=0)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:16]

    @property
    def url(self) -> str:
        """URL relative to the page; it contains the digest, so that caches need no revalidation."""
        return f"docs/{self.file.name}?{self.digest}"


class Docs:
    """The documentation pages.

    The page authenticates at ``issuer`` as the OAuth client ``client`` (authorization code, PKCE).
    """

    def __init__(self, issuer: str, client: str) -> None:
        swagger, own = (
            files("fastapi_offline") / "static",
            files("slipway_gateway.control") / "pages",
        )
        style = Asset(swagger / "swagger-ui.css", "text/css; charset=utf-8")
        script = Asset(own / "docs.js", "text/javascript; charset=utf-8")
        bundle = Asset(swagger / "swagger-ui-bundle.js", "text/javascript; charset=utf-8")
        self._assets = {asset.file.name: asset for asset in (style, script, bundle)}
        self._page = PAGE.format(
            style=style.url, swagger=bundle.url, script=script.url, client=escape(client)
        )
        self._headers = _secured(f"script-src 'self'; connect-src 'self' {_origin(issuer)}")
        self._login = bytes(get_swagger_ui_oauth2_redirect_html().body).decode()
        self._login_headers = _secured(f"script-src 'sha256-{_script_digest(self._login)}'")

    def router(self) -> Router:
        router = Router(prefix="/v1", include_in_schema=False)
        permission = Permission("openapi", PUBLIC)
        router.add("GET /docs", self.page, permission)
        router.add("GET /docs/login", self.login, permission)
        router.add("GET /docs/{asset}", self.asset, permission)
        return router

    async def page(self) -> Response:
        return Response(self._page, media_type="text/html", headers=self._headers)

    async def login(self) -> Response:
        """Return the OAuth redirect page, which passes the code to the page that opened it."""
        return Response(self._login, media_type="text/html", headers=self._login_headers)

    async def asset(self, asset: str, request: Request) -> Response:
        found = self._assets.get(asset)
        if found is None:
            raise NotFound(
                f"path {request.url.path} does not exist; GET /v1/docs describes the API"
            )
        headers = {
            "etag": f'"{found.digest}"',
            "vary": "accept-encoding",
            "x-content-type-options": "nosniff",
        }
        headers["cache-control"] = IMMUTABLE if request.url.query == found.digest else REVALIDATE
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if preferred(request.headers.get("accept-encoding", "").encode()) == b"gzip":
            return Response(
                found.packed,
                media_type=found.content_type,
                headers={**headers, "content-encoding": "gzip"},
            )
        return Response(found.content, media_type=found.content_type, headers=headers)


def _secured(scripts: str) -> dict[str, str]:
    """Return the security headers of a page; ``scripts`` is the script part of the policy.

    Swagger UI sets inline styles, and its style sheet contains images in ``data:`` URLs.
    """
    policy = (
        f"default-src 'none'; {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
    )
    policy += "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": REVALIDATE,
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _script_digest(page: str) -> str:
    """Return the Base64 SHA-256 of the page's inline script, for a Content-Security-Policy."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
