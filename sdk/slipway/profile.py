"""Profiles: platforms with their addresses, and the tokens of their logins.

``config.toml`` is in the folder of configuration, ``tokens.json`` in that of state (XDG). The
second has mode 0600, and one process at a time renews a token.
"""

import json
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.errors import SlipwayError, WrongParameter

EARLY = 1 / 3
"""Part of a token's lifetime that is left when it is renewed."""
LIFETIME = 300.0
"""Seconds for which a token is valid whose response does not state it."""
RETRY_SECONDS = 30.0
"""Seconds until an early renewal that failed is repeated."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


class LoginRequired(SlipwayError):
    """There is no valid login for a profile."""

    status = 5


@dataclass(frozen=True)
class Profile:
    """A platform: URL of its gateway, its identity provider and the public OAuth client."""

    name: str
    url: str
    issuer: str
    client: str = "slipway"


def _folder(variable: str, default: str) -> Path:
    given = os.environ.get(variable, "")
    return (Path(given) if given else Path.home() / default) / "slipway"


def config_file() -> Path:
    """Return the path of the file of profiles."""
    return _folder("XDG_CONFIG_HOME", ".config") / "config.toml"


def token_file() -> Path:
    """Return the path of the file of tokens."""
    return _folder("XDG_STATE_HOME", ".local/state") / "tokens.json"


def profiles() -> tuple[dict[str, Profile], str]:
    """Return all profiles by name, and the name of the current one. Raises WrongParameter."""
    path = config_file()
    try:
        found = tomllib.loads(path.read_text())
        known = {
            name: Profile(name, str(each["url"]), str(each["issuer"]), str(each["client"]))
            for name, each in found.get("profile", {}).items()
        }
    except FileNotFoundError:
        return {}, ""
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongParameter(f"{path}: is not valid: {error!r}; correct or delete it") from error
    return known, str(found.get("current", ""))


def chosen(name: str | None = None) -> Profile | None:
    """Return a profile: of this name, of ``SLIPWAY_PROFILE``, or the current one.

    Raises WrongParameter for an unknown name.
    """
    known, current = profiles()
    wanted = name or os.environ.get("SLIPWAY_PROFILE") or ""
    if wanted and wanted not in known:
        raise WrongParameter(
            f"profile {wanted!r}: is not one of {', '.join(known) or 'none'}; "
            "create it by slipway login URL --profile NAME"
        )
    return known.get(wanted or current)


def name_of(url: str) -> str:
    """Return the name of a profile for a URL: its host and port."""
    parts = urlsplit(url)
    text = f"{parts.hostname}-{parts.port}" if parts.port else str(parts.hostname)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:63].strip("-")


def check(profile: Profile) -> None:
    """Raise WrongParameter for a profile that cannot be stored."""
    if not _NAME.fullmatch(profile.name):
        raise WrongParameter(
            f"profile {profile.name!r}: is not a name; give at most 63 letters, digits, - and _"
        )
    for value in asdict(profile).values():
        _quoted(value)


def save(profile: Profile, *, current: bool) -> None:
    """Write a profile; an earlier one of the name is replaced, with its tokens if it differs.

    ``current`` makes it the current one in any case; the first profile always is.
    """
    check(profile)
    with _locked():
        known, selected = profiles()
        if known.get(profile.name) not in (None, profile):
            _write_tokens({k: v for k, v in _tokens().items() if k != profile.name})
        known[profile.name] = profile
        if current or selected not in known:
            selected = profile.name
        lines = [f"current = {_quoted(selected)}\n"]
        for each in known.values():
            fields = asdict(each)
            lines.append(f"\n[profile.{fields.pop('name')}]\n")
            lines += [f"{key} = {_quoted(value)}\n" for key, value in fields.items()]
        _write(config_file(), "".join(lines))


def _quoted(text: str) -> str:
    """Return a string of TOML; JSON's is one if it has only ASCII in the range of both."""
    if not text.isascii() or not text.isprintable():
        raise WrongParameter(f"{text!r}: has characters that a profile cannot have")
    return json.dumps(text)


def store_tokens(name: str, answer: Mapping[str, Any] | None) -> None:
    """Store the response of a token endpoint for a profile, or delete its tokens."""
    with _locked():
        _store(name, answer)


def _store(name: str, answer: Mapping[str, Any] | None) -> None:
    tokens = _tokens()
    tokens.pop(name, None)
    if answer is not None:
        seconds = float(answer.get("expires_in", LIFETIME))
        tokens[name] = {
            "access_token": answer["access_token"],
            "refresh_token": answer.get("refresh_token"),
            "renew_at": time.time() + seconds * (1 - EARLY),
            "expires_at": time.time() + seconds,
        }
    _write_tokens(tokens)


def stored(name: str) -> Mapping[str, Any] | None:
    """Return the stored tokens of a profile."""
    return _tokens().get(name)


def access_token(profile: Profile) -> str:
    """Return a valid access token; renew it early, in one process at a time.

    An early renewal that fails is repeated later. Raises LoginRequired and ProviderUnavailable.
    """
    if token := _valid(profile):
        return token
    with _locked():
        if token := _valid(profile):  # another process has renewed it
            return token
        found = _tokens().get(profile.name)
        remedy = f"run slipway login --profile {profile.name}"
        if found is None:
            raise LoginRequired(f"profile {profile.name}: you are not logged in; {remedy}")
        now = time.time()
        is_valid = now < found["expires_at"]
        if not found["refresh_token"]:
            if is_valid:
                return str(found["access_token"])
            raise LoginRequired(f"profile {profile.name}: the login has expired; {remedy}")
        from slipway.login import LoginFailed, refreshed

        try:
            answer = refreshed(profile, found["refresh_token"])
        except SlipwayError as error:
            if is_valid:
                renew_at = min(now + RETRY_SECONDS, found["expires_at"])
                changed = {"refresh_token": None} if isinstance(error, LoginFailed) else {}
                entry = {**found, "renew_at": renew_at, **changed}
                _write_tokens({**_tokens(), profile.name: entry})
                return str(found["access_token"])
            if not isinstance(error, LoginFailed):
                raise
            _store(profile.name, None)
            raise LoginRequired(
                f"profile {profile.name}: the login has expired ({error}); {remedy}"
            ) from error
        _store(profile.name, {"refresh_token": found["refresh_token"], **answer})
        return str(answer["access_token"])


def _valid(profile: Profile) -> str | None:
    found = _tokens().get(profile.name)
    return str(found["access_token"]) if found and time.time() < found["renew_at"] else None


def _tokens() -> dict[str, Any]:
    try:
        found = json.loads(token_file().read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_tokens(tokens: Mapping[str, Any]) -> None:
    _write(token_file(), json.dumps(tokens))


def _write(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the lock of profiles and tokens. Raises SlipwayError where the system has no locks."""
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise SlipwayError(
            "profiles: Windows has no locks of files (fcntl); set SLIPWAY_URL and SLIPWAY_TOKEN, "
            "or use WSL"
        ) from error
    path = token_file().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
