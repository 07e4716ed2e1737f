"""What the ring keeps between two starts: secrets and ports."""

import json
import secrets
import socket
from collections.abc import Callable
from pathlib import Path


class State:
    """The state folder. Files with secrets are readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)

    def folder(self, name: str) -> Path:
        """A folder below the state folder, made when it is not there."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        """A random secret, made at the first call and kept."""
        return self._kept("secrets.json", name, lambda: secrets.token_urlsafe(24))

    def port(self, name: str) -> int:
        """A loopback port, kept over restarts as long as nobody else has taken it."""
        port = int(self._kept("ports.json", name, lambda: str(free_port())))
        if is_free(port):
            return port
        self._write("ports.json", {**self._read("ports.json"), name: str(free_port())})
        return int(self._read("ports.json")[name])

    def write_private(self, name: str, content: str) -> Path:
        """Write a file that only its owner can read, in one step."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(path.suffix + ".new")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(content)
        return draft.replace(path)

    def _kept(self, file: str, name: str, make: Callable[[], str]) -> str:
        known = self._read(file)
        if name not in known:
            known[name] = make()
            self._write(file, known)
        return known[name]

    def _read(self, file: str) -> dict[str, str]:
        path = self.root / file
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _write(self, file: str, content: dict[str, str]) -> None:
        self.write_private(file, json.dumps(content, indent=1))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; one in TIME_WAIT counts as free, as it does for servers."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
