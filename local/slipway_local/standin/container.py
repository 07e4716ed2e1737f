"""A container as a local process: command line, environment, folders, ports."""

import os
import random
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway_cluster.interface import Manifest

from slipway_local.standin.process import MARK
from slipway_local.standin.workload import CONFIG_MAP, SECRET, Container, Data, PodSpec

TERMINATION_LOG = "SLIPWAY_TERMINATION_LOG"
"""Environment variable with the file that stands for ``/dev/termination-log``."""

# Below the kernel's range of ephemeral ports, so that a free port stays free
# until its process listens.
_PORTS = range(20000, 32768)
_INHERITED = ("HOME", "USER", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Image:
    """Local equivalent of a container image: a folder of programs and an environment."""

    path: Path
    """The ``bin`` folder, first in PATH."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The image's ENV; the container's env takes precedence."""
    workdir: Path | None = None
    """Working directory; the pod's own folder if None."""
    entrypoint: tuple[str, ...] = ()
    """Command of a container that has none."""


@dataclass(frozen=True)
class Launch:
    """Parameters of a process to start."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path


class PodFolder:
    """Files of one pod: volumes, temporary files, logs, termination messages."""

    def __init__(self, path: Path, spec: PodSpec) -> None:
        self.path = path
        self.tmp = path / "tmp"
        self.logs = path / "logs"
        self._spec = spec
        self._volumes = {
            volume.name: Path(volume.host_path.path)
            if volume.host_path
            else path / "volumes" / volume.name
            for volume in spec.volumes
        }

    def make(self) -> None:
        """Create all folders."""
        for folder in (self.tmp, self.logs, *self._volumes.values()):
            folder.mkdir(parents=True, exist_ok=True)

    def fill(self, data: Data) -> None:
        """Write the files of Secrets and ConfigMaps. Raises NotFound when one does not exist."""
        for volume in self._spec.volumes:
            files: Mapping[str, str] = {}
            if volume.secret:
                files = data(SECRET, volume.secret.secret_name)
            elif volume.config_map:
                files = data(CONFIG_MAP, volume.config_map.name)
            for name, content in files.items():
                file = self._volumes[volume.name] / name
                file.touch(mode=0o600)
                file.write_text(content)

    def log(self, container: str) -> Path:
        return self.logs / f"{container}.log"

    def termination_log(self, container: str) -> Path:
        return self.path / f"{container}.termination"

    def mounts(self, container: Container) -> dict[str, Path]:
        """Return the real folder of each mount path.

        /tmp is not among them: TMPDIR stands for it, and paths of the host begin with it.
        """
        mounts = {
            mount.mount_path.rstrip("/"): self._volumes[mount.name]
            for mount in container.volume_mounts
        }
        return {path: folder for path, folder in mounts.items() if path != "/tmp"}  # noqa: S108 - a name, not a file


def launch(
    container: Container,
    image: Image,
    folder: PodFolder,
    ports: Mapping[int, int],
    pod: Manifest,
    data: Data,
) -> Launch:
    """Return the process of a pod's container.

    Mount paths and container ports are replaced in its arguments and in its own environment.
    Raises NotFound when a Secret or ConfigMap, or its key, does not exist.
    """
    mounts = folder.mounts(container)

    def placed(text: str) -> str:
        return with_ports(with_mounts(text, mounts), ports)

    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env["PATH"] = f"{image.path}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    env |= image.env
    for variable in container.env:
        value = (
            variable.value_from.read(pod, data)
            if variable.value_from
            else expanded(placed(variable.value), env)
        )
        if value is not None:
            env[variable.name] = value
    env |= {
        "TMPDIR": str(folder.tmp),
        TERMINATION_LOG: str(folder.termination_log(container.name)),
        MARK: pod["metadata"]["uid"],
    }
    command = [*(container.command or image.entrypoint), *container.args]
    cwd = (
        Path(placed(container.working_dir))
        if container.working_dir
        else image.workdir or folder.path
    )
    return Launch([expanded(placed(word), env) for word in command], env, cwd)


def with_mounts(text: str, mounts: Mapping[str, Path]) -> str:
    """Replace mount paths that are whole paths, not parts of longer ones."""
    if not mounts:
        return text
    longest_first = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
    return re.sub(
        rf"(?<![\w.-])({longest_first})(?![\w.-])", lambda match: str(mounts[match[1]]), text
    )


def with_ports(text: str, ports: Mapping[int, int]) -> str:
    """Replace container ports that are whole numbers."""
    return re.sub(
        r"(?<![\w.])\d+(?![\w.])", lambda match: str(ports.get(int(match[0]), match[0])), text
    )


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable's value and ``$$`` by ``$``, as Kubernetes does.

    References to unknown names are unchanged.
    """
    return re.sub(
        r"\$(?:\$|\(([A-Za-z_][\w.-]*)\))",
        lambda match: env.get(match[1], match[0]) if match[1] else "$",
        text,
    )


def free_ports(wanted: Iterable[int], taken: set[int]) -> dict[int, int]:
    """Return a free loopback port, not in ``taken``, for each container port."""
    result: dict[int, int] = {}
    for port in wanted:
        result[port] = next(
            candidate
            for candidate in random.sample(_PORTS, len(_PORTS))
            if candidate not in taken and candidate not in result.values() and _is_free(candidate)
        )
    return result


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
