"""The monitor: compares a window of requests with the training inputs of the live version."""

import logging
import tempfile
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from slipway.errors import NoSuchVersion, WrongParameter
from slipway.packaging.reference import Reference, watched, watched_names
from slipway.packaging.rows import Arrays
from slipway.registry.tracking import Tracking, Version
from slipway.training.dataset import Floats
from slipway_contract.errors import InvalidInput, MalformedRequest
from slipway_contract.registry import REFERENCE_FILE, SIGNATURE_FILE
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, parse_request

from slipway_jobs.monitoring import event_log
from slipway_jobs.monitoring.drift import compare
from slipway_jobs.monitoring.drift_report import DRIFT, STABLE, TOO_FEW, DriftReport
from slipway_jobs.promotion.evaluation import fetch
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

EXPERIMENT = "monitoring"


def monitor(
    model: str,
    alias: str,
    window: timedelta,
    min_rows: int,
    max_requests: int,
    settings: Settings,
    tracking: Tracking,
) -> dict[str, Any]:
    """Store the report as a run of the experiment ``monitoring``; return the result as JSON.

    ``state`` is stable, drift or too few rows.
    """
    if settings.database_url is None:
        raise WrongParameter(
            "SLIPWAY_DATABASE_URL: is not set; it names the PostgreSQL database that holds "
            "the event log"
        )
    version = tracking.aliased(model, alias)
    if version is None:
        raise NoSuchVersion(
            f"{model}: no version has the alias {alias} to compare with; promote one first"
        )
    with tracking.run(EXPERIMENT, f"{model}/{version.version}", {"slipway.model": model}) as run:
        until = datetime.now(UTC)
        signature, reference = _known(version, tracking)
        with event_log.requests(
            settings.database_url, model, until - window, until, max_requests
        ) as bodies:
            features, read, unreadable = inputs(signature, bodies, reference.words)
        logger.info(
            "%d rows of %d requests since %s, %d unreadable",
            len(features),
            read,
            until - window,
            unreadable,
        )
        columns = compare(reference, features) if len(features) >= min_rows else []
        state = DRIFT if any(column.drifted for column in columns) else STABLE
        report = DriftReport(
            state=state if len(features) >= min_rows else TOO_FEW,
            model=model, version=version.version, digest=version.digest, since=until - window,
            until=until, requests=read, rows=len(features), min_rows=min_rows,
            unreadable=unreadable, columns=columns,
        )  # fmt: skip
        run.log(
            params={"model": model, "version": version.version, "window": window, "alias": alias},
            metrics={"rows": report.rows, "drifted": len(report.drifted)}
            | {
                f"psi.{_metric(column.name)}": column.psi
                for column in columns
                if column.psi is not None
            },
            tags={"slipway.state": report.state},
        )
        run.log_files(
            {
                "drift.json": report.model_dump_json(by_alias=True, indent=1),
                "drift.html": report.html(),
            }
        )
    return {
        **report.model_dump(mode="json", by_alias=True, exclude={"columns"}),
        "drifted": report.drifted,
        "runId": run.id,
    }


def inputs(
    signature: Signature, bodies: Iterable[str | None], words: Collection[str] = ()
) -> tuple[Floats, int, int]:
    """Return the requests' rows [rows, columns of the reference], and two counts of requests.

    The counts are all requests and the unreadable ones. NaN is a missing value; ``words`` are the
    reference's common words.
    """
    parts: list[Floats] = []
    read = unreadable = 0
    for body in bodies:
        read += 1
        try:
            parts.append(watched(signature, _rows(signature, body or ""), words))
        except (InvalidInput, MalformedRequest) as error:
            unreadable += 1
            logger.debug("a request is left out: %s", error)
    width = sum(len(watched_names(column)) for column in signature.inputs)
    return np.concatenate([np.empty((0, width), np.float32), *parts]), read, unreadable


def _rows(signature: Signature, body: str) -> Arrays:
    """Return a request's rows by input. Null becomes NaN, and of texts the empty one."""
    tensors = {tensor.name: tensor for tensor in parse_request(body.encode()).inputs}
    rows = signature.check(list(tensors.values()))
    return {
        column.name: _array(column, tensors[column.name].data).reshape(rows, -1)
        for column in signature.inputs
    }


def _array(column: Column, values: Sequence[Any]) -> NDArray[Any]:
    if column.datatype is Datatype.BYTES:
        return np.array([value or "" for value in values], dtype=object)
    return np.array(values, dtype=np.float32)


def _known(version: Version, tracking: Tracking) -> tuple[Signature, Reference]:
    """Return the version's signature and reference from its verified artifact."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, _ = fetch(version, tracking, Path(temporary))
        try:
            signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
            return signature, Reference.model_validate_json((folder / REFERENCE_FILE).read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise NoSuchVersion(
                f"{version}: has no readable {SIGNATURE_FILE} and {REFERENCE_FILE}: {error}"
            ) from None


def _metric(name: str) -> str:
    """Return a valid MLflow metric name: ``pixels[12]`` becomes ``pixels.12``."""
    return name.replace("[", ".").replace("]", "").replace(",", ".")
