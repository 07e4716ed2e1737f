"""State that survives a restart: secrets and ports."""

import fcntl
import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joserfc.jwk import ECKey
from slipway_cluster import ClusterError


class State:
    """The state folder. Only their owner can read files with secrets."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self._ports: dict[str, int] = {}

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Reserve the folder. Raises ClusterError when another local stack runs on it."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(
                    f"another local stack runs on {self.root}; stop it or choose another folder"
                ) from None
            yield

    def folder(self, name: str, mode: int = 0o755) -> Path:
        """Return a folder below the state folder; create it if it does not exist."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        return path

    def secret(self, name: str) -> str:
        """Return a random secret, created and stored at the first call."""
        known = self._read("secrets.json")
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            self._write("secrets.json", known)
        return known[name]

    def signing_key(self) -> Path:
        """Return the PEM file of the private key for artifacts, created at the first call."""
        path = self.root / "signing-key.pem"
        if not path.exists():
            self.write_private(path.name, ECKey.generate_key("P-256").as_pem(private=True).decode())
        return path

    def trusted_key(self) -> str:
        """Return the PEM of the corresponding public key."""
        return ECKey.import_key(self.signing_key().read_bytes()).as_pem(private=False).decode()

    def port(self, name: str) -> int:
        """Return a loopback port: that of the last start if it is still free."""
        if name not in self._ports:
            port = int(self._read("ports.json").get(name, 0)) or free_port()
            self._ports[name] = port if is_free(port) else free_port()
            self._write("ports.json", {**self._read("ports.json"), name: str(self._ports[name])})
        return self._ports[name]

    def write_private(self, name: str, content: str) -> Path:
        """Write a file that only its owner can read, atomically."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(path.suffix + ".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(content)
        return draft.replace(path)

    def _read(self, file: str) -> dict[str, str]:
        path = self.root / file
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _write(self, file: str, content: dict[str, str]) -> None:
        self.write_private(file, json.dumps(content, indent=1))


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return True when a server could listen on the port; a port in TIME_WAIT counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
