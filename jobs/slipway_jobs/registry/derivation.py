"""Derivation of an artifact from a logged folder, in a process of its own.

Libraries in C++ read the model file. A hostile or damaged file can crash them, occupy all memory,
or never end; then this process ends and not the Job, which reports the reason. It has limits, and
neither the signing key nor the credentials of the registry.
"""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from slipway.errors import Refused, SlipwayError, WrongParameter
from slipway.packaging import artifact
from slipway.packaging.card import card
from slipway.packaging.frames import frame_rows
from slipway.packaging.model import PackagedModel
from slipway.packaging.model_file import read_model
from slipway.packaging.package import package
from slipway.packaging.rows import Arrays, request_of
from slipway.registry.tracking import Version
from slipway_contract.registry import (
    CARD_FILE,
    EXAMPLE_FILE,
    SIGNATURE_FILE,
    ArtifactManifest,
)

from slipway_jobs.registry.flavor import model_file
from slipway_jobs.registry.logged_graph import of_logged_graph
from slipway_jobs.registry.mlmodel import LoggedModel, read_folder

logger = logging.getLogger(__name__)

SECONDS = 1200
"""Longest time of a derivation; the Job has an hour by default."""

_MEMORY = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Files with the memory of the container, of cgroups 2 and 1."""

_STACK = 8 * 2**20
"""Address space of a thread's stack, of which little is used."""

_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH")
"""Environment variables that the process inherits; the others may have credentials."""

RESULT_FILE = "result.json"


def derive_isolated(
    logged: Path, folder: Path, version: Version, user: str, limit: int, seconds: float = SECONDS
) -> ArtifactManifest:
    """Derive ``folder/artifact`` from the logged folder; return its manifest. Raises Refused.

    ``limit`` is the largest model file in bytes.
    """
    memory = _memory()
    request = {
        "logged": str(logged.resolve()),
        "folder": str(folder.resolve()),
        "version": [version.name, version.version, version.run_id],
        "user": user,
        "limit": limit,
        "memory": memory,
    }
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        code = subprocess.run(
            [sys.executable, "-P", "-m", "slipway_jobs.registry.derivation"],
            input=json.dumps(request).encode(), stdout=subprocess.DEVNULL, check=False,
            timeout=seconds,
            env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        ).returncode  # fmt: skip
        ended = f"ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"
    except subprocess.TimeoutExpired:
        code, ended = 1, f"took more than {seconds:g} seconds"
    path = folder / RESULT_FILE
    result = json.loads(path.read_bytes()) if path.is_file() else {"reason": _INVALID}
    if code:
        raise Refused(f"{result['reason']} (reading it {ended}; it may use {memory >> 20} MiB)")
    if "digest" not in result:
        raise Refused(result["reason"])
    return artifact.check(folder / "artifact", result["digest"])


def _memory() -> int:
    """Return the bytes of memory for the process: three quarters of those of the container."""
    given = [str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    given += [path.read_text().strip() for path in _MEMORY if path.is_file()]
    return min(int(text) for text in given if text.isdecimal()) // 4 * 3


_INVALID = "the logged folder is not a valid model of MLflow; log the fitted model again"


def derive(
    logged: LoggedModel, model: tuple[str, Path], folder: Path, version: Version, user: str
) -> ArtifactManifest:
    """Write the artifact of the logged model into the folder, and return its manifest.

    ``model`` is its flavor and model file. Raises Refused.
    """
    flavor, path = model
    packaged, rows = of_logged_graph(path, logged) if flavor == "onnx" else _packaged(path, logged)
    provenance = {
        "adoptedBy": user,
        "flavor": flavor,
        "parity": packaged.parity.as_json() if packaged.parity else None,
        **({"runId": version.run_id} if version.run_id else {}),
    }
    data = [
        f"Logged with mlflow.{flavor}.log_model and adopted unchanged. Training data and scores "
        "are not recorded.",
        *([] if logged.has_example else ["No input example was logged."]),
    ]
    text = card(str(version), None, packaged, data, {}, f"run {version.run_id or 'unknown'}")
    files = {
        SIGNATURE_FILE: packaged.signature.model_dump_json(
            indent=1, exclude_defaults=True
        ).encode(),
        EXAMPLE_FILE: request_of(packaged.signature, rows),
        CARD_FILE: text.encode(),
        "provenance.json": json.dumps(provenance, indent=1).encode(),
    }
    (folder / packaged.form.file).write_bytes(packaged.content)
    return artifact.write(folder, files, packaged.form)


def _packaged(path: Path, logged: LoggedModel) -> tuple[PackagedModel, Arrays]:
    """Return the package of a model that is no graph, and its rows. Raises Refused."""
    frame, inputs = logged.table()
    try:
        packaged = package(read_model(path), {"input_example": frame}, inputs=inputs)
        rows = frame_rows(frame[:1], packaged.signature.inputs)
    except WrongParameter as error:
        raise Refused(str(error)) from error
    return packaged, rows


def main() -> int:
    """Derive the artifact of the request on standard input, and write the result as JSON."""
    request = json.load(sys.stdin)
    # Data and not the address space, of which the libraries reserve much that they do not use.
    data = request["memory"] + 2 * (os.cpu_count() or 1) * _STACK
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or data < most:
        resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder, limit = Path(request["folder"]), int(request["limit"])
    name, number, run_id = request["version"]
    version = Version(name, number, run_id, {})

    def write(result: dict[str, str]) -> None:
        (folder / RESULT_FILE).write_text(json.dumps(result))

    try:
        logged = read_folder(Path(request["logged"]), limit)
        flavor, path = model_file(logged, version.name)
        # The reason if this process ends before the result.
        write({"reason": _invalid(path.name, flavor)})
        manifest = derive(logged, (flavor, path), folder / "artifact", version, request["user"])
        write({"digest": manifest.digest})
    except SlipwayError as error:
        write({"reason": str(error)})
    except Exception as error:  # a hostile file raises anything
        logger.exception("the derivation failed")
        write({"reason": f"the model cannot be packaged: {type(error).__name__}: {error}"})
    return 0


def _invalid(file: str, flavor: str) -> str:
    return (
        f"{file} is not a valid file of {flavor}; save the fitted model again by "
        f"mlflow.{flavor}.log_model, and move the alias to the new version"
    )


if __name__ == "__main__":
    sys.exit(main())
