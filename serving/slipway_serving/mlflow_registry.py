"""Client of MLflow: the location and the files of a registered version.

Files are read through the tracking server's artifact proxy.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from slipway_contract.mlflow_api import API, ARTIFACTS, model_version
from slipway_contract.registry import Tag

from slipway_serving.errors import Refused
from slipway_serving.settings import StorageSettings

_log = logging.getLogger(__name__)
_MOST_FILES = 10_000
_LOGGED_MODEL = re.compile(r"^models:/m-[0-9a-f]+$")

T = TypeVar("T")


class Unreachable(Exception):
    """MLflow returned no usable response; a retry may succeed."""


class MlflowRegistry:
    """Registered versions and their files.

    Every method raises Refused when MLflow cannot return them.
    """

    def __init__(self, settings: StorageSettings, client: httpx.Client) -> None:
        self._settings = settings
        self._client = client
        self._base = settings.tracking_uri.rstrip("/")

    def location(self, name: str, version: str) -> str:
        """Return the folder of a registered version in the artifact proxy.

        An adopted version has the folder of the artifact that was converted from it.
        """
        query, what = {"name": name, "version": version}, f"{name} version {version}"
        adopted = _adopted(self._get(f"{API}/model-versions/get", query, what), what)
        if adopted:
            return self._proxied(self._resolved(adopted))
        response = self._get(f"{API}/model-versions/get-download-uri", query, what)
        return self._proxied(self._resolved(_text(response, "artifact_uri")))

    def files(self, location: str) -> set[str]:
        """Return the relative paths of all files below the location."""
        found: set[str] = set()
        folders = [""]
        while folders:
            folder = folders.pop()
            for item in (
                self._get(ARTIFACTS, {"path": _join(location, folder)}, "the artifact").get("files")
                or ()
            ):
                name = _text(item, "path")
                if name in ("", ".", "..") or "/" in name:
                    raise Refused(f"the store lists a file {name!r}, which is not a plain name")
                if item.get("is_dir"):
                    folders.append(_join(folder, name))
                else:
                    found.add(_join(folder, name))
            if len(found) + len(folders) > _MOST_FILES:
                raise Refused(f"the store lists more than {_MOST_FILES} files")
        return found

    def read(self, location: str, path: str, consume: Callable[[Iterator[bytes]], T]) -> T:
        """Stream the bytes of a file to ``consume`` and return its result.

        ``consume`` is called again after a broken download, so it must be able to restart.
        """

        def download() -> T:
            with self._opened(f"{ARTIFACTS}/{quote(_join(location, path))}", {}, path) as response:
                return consume(response.iter_raw(2**18))

        return self._with_retries(download)

    def _resolved(self, uri: str) -> str:
        """Return the artifact URI behind MLflow's indirections.

        ``models:/m-…`` is a logged model, ``runs:/…`` a run.
        """
        scheme, _, rest = uri.partition(":/")
        if scheme == "models" and rest.startswith("m-") and "/" not in rest:
            path = f"{API}/logged-models/{quote(rest, safe='')}"
            response = self._get(path, {}, f"logged model {rest}")
            return _text(response, "model", "info", "artifact_uri")
        if scheme == "runs":
            run_id, _, path = rest.lstrip("/").partition("/")
            response = self._get(f"{API}/runs/get", {"run_id": run_id}, f"run {run_id}")
            return _join(_text(response, "run", "info", "artifact_uri"), path)
        return uri

    def _proxied(self, uri: str) -> str:
        """Return the path of an artifact URI within this server's proxy.

        Other artifact stores would need credentials that a predictor must not have.
        """
        parts = urlsplit(uri)
        here = urlsplit(self._base)
        path = unquote(parts.path)
        if parts.scheme == "mlflow-artifacts" and parts.netloc in ("", here.netloc):
            inside = path
        elif (parts.scheme, parts.netloc) == (here.scheme, here.netloc) and path.startswith(
            f"{here.path}{ARTIFACTS}/"
        ):
            inside = path.removeprefix(f"{here.path}{ARTIFACTS}")
        else:
            raise Refused(
                f"the artifact lies at {uri}, which is not served by the proxy of {self._base}"
            )
        inside = inside.strip("/")
        if not inside or ".." in PurePosixPath(inside).parts:
            raise Refused(f"the artifact's location {uri} is not a folder in the store")
        return inside

    def _get(self, path: str, parameters: dict[str, str], what: str) -> dict[str, Any]:
        def request() -> object:
            with self._opened(path, parameters, what) as response:
                response.read()
                return response.json()

        try:
            content = self._with_retries(request)
        except ValueError as error:
            raise Refused(f"MLflow at {self._base} returned no JSON: {error}") from error
        if not isinstance(content, dict):
            raise Refused(f"MLflow at {self._base} returned no JSON object")
        return content

    @contextmanager
    def _opened(self, path: str, parameters: dict[str, str], what: str) -> Iterator[httpx.Response]:
        # A compressed file could unpack to any size, and the digest is that of the identity coding.
        headers = {"accept-encoding": "identity"}
        try:
            with self._client.stream(
                "GET", self._base + path, params=parameters, headers=headers
            ) as response:
                if response.status_code == 404:
                    raise Refused(f"{what} is not in MLflow at {self._base}")
                if response.status_code in (401, 403):
                    raise Refused(
                        f"MLflow at {self._base} denies read access to {what} (status "
                        f"{response.status_code})"
                    )
                if response.status_code >= 500 or response.status_code == 429:
                    raise Unreachable(f"status {response.status_code} for {what}")
                if response.status_code != 200:
                    raise Refused(
                        f"MLflow at {self._base} returned {response.status_code} for {what}"
                    )
                yield response
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def _with_retries(self, call: Callable[[], T]) -> T:
        pause = self._settings.backoff
        for attempt in range(1, self._settings.attempts + 1):
            try:
                return call()
            except Unreachable as error:
                if attempt == self._settings.attempts:
                    raise Refused(
                        f"MLflow at {self._base} does not respond after {attempt} tries: {error}"
                    ) from error
                _log.warning("MLflow at %s: %s; trying again in %.1f s", self._base, error, pause)
                time.sleep(pause)
                pause *= 2
        raise AssertionError("at least one attempt")


def _adopted(response: dict[str, Any], what: str) -> str | None:
    """Return the logged model that a tag of the version names in place of the version's own."""
    try:
        location = model_version(response).tag(Tag.ARTIFACT)
    except ValueError as error:
        raise Refused(f"MLflow returned an unexpected response: {error}") from error
    if location is not None and not _LOGGED_MODEL.match(location):
        raise Refused(f"tag {Tag.ARTIFACT} of {what} is {location!r}, which is not a logged model")
    return location


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}".strip("/") if folder else name


def _text(content: Any, *keys: str) -> str:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    if not isinstance(content, str):
        raise Refused(f"MLflow returned an unexpected response: it has no {'.'.join(keys)}")
    return content
