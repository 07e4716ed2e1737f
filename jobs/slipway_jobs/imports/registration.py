"""Registration of an external model: verify it, record its origin, and register it."""

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from slipway.errors import Refused, WrongParameter
from slipway.packaging.model import PackagedModel
from slipway.packaging.parity import Parity, compare
from slipway.packaging.rows import Arrays, generate_rows, of_request, request_of
from slipway.registry.storing import store_version
from slipway.registry.tracking import Tracking
from slipway_contract.pickles import is_pickle, named_like_a_pickle
from slipway_contract.registry import CARD_FILE, EXAMPLE_FILE, NAME, NAME_RULE, SIGNATURE_FILE, Tag
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.imports.card import card
from slipway_jobs.imports.origin import Origin
from slipway_jobs.imports.rows import of_file
from slipway_jobs.imports.source import fetch
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

EXPERIMENT = "import"

TRIED = 16
"""Number of generated rows, one of which becomes the example."""


@dataclass(frozen=True)
class RegistrationRequest:
    """The parameters of a registration.

    Files are paths, or URLs with a pinned digest; ``signature`` and ``example`` may be JSON text.
    """

    name: str
    file: str
    signature: str | None = None
    example: str | None = None
    """A V2 request."""
    expected: str | None = None
    """File of rows with their expected outputs."""
    tolerance: float = 1e-4
    use: str | None = None
    """Intended use of the model."""
    dataset: str | None = None
    """Training data of the model."""
    licence: str | None = None
    source: str | None = None
    serve_estimator: bool = False
    """Serve the estimator itself instead of the ONNX graph exported from it."""


def register(
    request: RegistrationRequest, settings: Settings, tracking: Tracking
) -> dict[str, Any]:
    """Verify the file, register it and return the result as JSON.

    Raises Refused with the reason when it cannot be served; then nothing is registered.
    """
    if not NAME.fullmatch(request.name):
        raise WrongParameter(
            f"name: {request.name!r} is not a name that can be served; {NAME_RULE}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = _fetched(request.file, folder / "file", settings)
        origin = _origin(request, path, settings)
        model, parity, example = _verified(request, path, folder, settings)
        return _store(request, origin, model, parity, example, settings, tracking)


def _verified(
    request: RegistrationRequest, path: Path, folder: Path, settings: Settings
) -> tuple[PackagedModel, Parity | None, Arrays]:
    """Return the verified model, its comparison and its example. Raises Refused."""
    if named_like_a_pickle(path.name) or is_pickle(path):
        raise Refused(
            f"{path.name} is a pickle, which could run any code: save the model as ONNX or "
            "by skops.io.dump"
        )
    signature = _signature(request.signature, folder / "signature", settings)
    body = _content(request.example, folder / "example", settings)
    table = _fetched(request.expected, folder / "expected", settings) if request.expected else None
    model = _read_model(path, signature, body, table, serve_estimator=request.serve_estimator)
    example = of_request(body, model.signature) if body else _example(model)
    if table is None:
        model.check_rows(_two_rows(model.signature, example))
        model.check_outputs(example)
        return model, model.parity, example
    inputs, expected = of_file(table, model.signature)
    model.check_rows(inputs)
    outputs = model.check_outputs(inputs)
    parity = _compared(model, outputs, expected, request.tolerance, table.name)
    return model, parity, example if body else {name: array[:1] for name, array in inputs.items()}


def _example(model: PackagedModel) -> Arrays:
    """Return the first generated row with finite outputs; JSON has no infinite numbers."""
    rows = generate_rows(model.signature, TRIED)
    for column in model.signature.inputs:
        if column.datatype.is_float and not column.codes:
            # 1 is valid for logarithms and divisions.
            rows[column.name][1] = np.clip(1, column.minimum, column.maximum)
    try:
        outputs = [
            array
            for array in model.predict_rows(rows).values()
            if array.dtype.kind == "f" and len(array) == TRIED
        ]
    except Refused:  # the following checks report the reason
        outputs = []
    finite = np.ones(TRIED, bool)
    for array in outputs:
        finite &= np.isfinite(array.reshape(TRIED, -1)).all(axis=1)
    index = int(np.argmax(finite))
    return {name: array[index : index + 1] for name, array in rows.items()}


def _two_rows(signature: Signature, example: Arrays) -> Arrays:
    """Return the example's first row and another one, for the check of independent rows.

    The other row is generated; with texts it is the example's last one, because categories cannot
    be generated.
    """
    texts = any(column.datatype is Datatype.BYTES for column in signature.inputs)
    other = example if texts else generate_rows(signature, rows=2)
    return {name: np.concatenate([array[:1], other[name][-1:]]) for name, array in example.items()}


def _compared(
    model: PackagedModel, outputs: Arrays, expected: Arrays, tolerance: float, against: str
) -> Parity:
    try:
        return compare(outputs, expected, tolerance, against)
    except Refused as error:
        raise Refused(f"{error}{model.caveat and '; '}{model.caveat}") from None


def _read_model(
    path: Path,
    signature: Signature | None,
    example: bytes | None,
    table: Path | None,
    *,
    serve_estimator: bool,
) -> PackagedModel:
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if archive:
        from slipway_jobs.imports.estimator import of_skops

        return of_skops(path, signature, example, table, serve_estimator=serve_estimator)
    if serve_estimator:
        raise WrongParameter(
            f"--format skops: {path.name} is not a skops file; leave the option out"
        )
    from slipway.packaging.onnx_file import of_onnx

    return of_onnx(path, signature, example)


def _store(
    request: RegistrationRequest, origin: Origin, model: PackagedModel, parity: Parity | None,
    example: Arrays, settings: Settings, tracking: Tracking,
) -> dict[str, Any]:  # fmt: skip
    tags = {
        "slipway.model": request.name,
        Tag.GIT_REVISION: settings.revision,
        Tag.IMAGE: settings.image,
    }
    with tracking.run(f"{EXPERIMENT}-{request.name}", origin.file, tags) as run:
        known_origin = {key: value for key, value in asdict(origin).items() if value is not None}
        compared = parity.as_json() if parity else None
        text = card(request.name, request.use, origin, model, parity)
        run.log(params=known_origin, tags={"mlflow.note.content": text})
        files = {
            model.form.file: model.content,
            SIGNATURE_FILE: model.signature.model_dump_json(
                indent=1, exclude_defaults=True
            ).encode(),
            EXAMPLE_FILE: request_of(model.signature, example),
            CARD_FILE: text.encode(),
            "provenance.json": json.dumps(
                {
                    "runId": run.id,
                    "image": settings.image,
                    "import": known_origin,
                    "parity": compared,
                }
            ).encode(),
        }
        tags |= {Tag.DATASET: request.dataset} if request.dataset else {}
        version = store_version(
            tracking,
            run,
            request.name,
            files,
            model.form,
            tags,
            f"imported from {origin.file} (sha256:{origin.sha256})",
            settings.signing_key,
        )
    return {
        "state": "registered", "model": request.name, "version": version.version, "runId": run.id,
        "digest": version.digest,
        "format": model.form.value, "file": f"sha256:{origin.sha256}", "parity": compared,
    }  # fmt: skip


def _origin(request: RegistrationRequest, path: Path, settings: Settings) -> Origin:
    return Origin(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        by=settings.user,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        url=request.file.partition("#")[0] if "://" in request.file else None,
        dataset=request.dataset,
        licence=request.licence,
        source=request.source,
    )


def _signature(text: str | None, folder: Path, settings: Settings) -> Signature | None:
    content = _content(text, folder, settings)
    if content is None:
        return None
    try:
        return Signature.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(
            f"the signature is invalid: {where + ': ' if where else ''}{first['msg']}"
        ) from None


def _content(text: str | None, folder: Path, settings: Settings) -> bytes | None:
    if text is None or text.lstrip().startswith("{"):
        return text.encode() if text else None
    return _fetched(text, folder, settings).read_bytes()


def _fetched(text: str, folder: Path, settings: Settings) -> Path:
    folder.mkdir()
    return fetch(text, folder, settings.import_limit, settings.import_hosts)
