"""Source files of imports: a path, or a URL with a pinned digest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from slipway.errors import Refused, WrongParameter

from slipway_jobs.download import download

_PIN = "#sha256="
_CHUNK = 2**20
_TIMEOUT = 30.0


def fetch(text: str, folder: Path, limit: int, hosts: frozenset[str] = frozenset()) -> Path:
    """Copy ``path`` or ``https://host/file#sha256=HEX`` into the folder and return the copy.

    A path may have a digest too. Raises WrongParameter (no such file, a URL without digest) and
    Refused (another digest, more than ``limit`` bytes, a host that is neither public nor one of
    ``hosts``).
    """
    location, _, pin = text.partition(_PIN)
    name = PurePosixPath(urlsplit(location).path if "://" in location else location).name
    if not name or not name.isprintable():
        raise WrongParameter(f"{location}: is not a file name")
    digest = hashlib.sha256()
    size = 0
    with (folder / name).open("wb") as copy:
        for chunk in _remote(location, pin, hosts) if "://" in location else _local(location):
            size += len(chunk)
            if size > limit:
                raise Refused(
                    f"{name} is larger than {limit} bytes, the import limit (SLIPWAY_IMPORT_LIMIT)"
                )
            digest.update(chunk)
            copy.write(chunk)
    if pin and digest.hexdigest() != pin.lower():
        raise Refused(
            f"{name} has the digest sha256:{digest.hexdigest()}; sha256:{pin} is expected"
        )
    return folder / name


def _local(location: str) -> Iterator[bytes]:
    try:
        with Path(location).open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise WrongParameter(f"{location}: cannot be read: {error.strerror}") from None


def _remote(location: str, pin: str, hosts: frozenset[str]) -> Iterator[bytes]:
    if urlsplit(location).scheme not in ("http", "https"):
        raise WrongParameter(f"{location}: only http:// and https:// are supported")
    if not pin:
        raise WrongParameter(f"{location}: has no digest; write {location}{_PIN}HEX")
    yield from download(location, hosts, _TIMEOUT)
