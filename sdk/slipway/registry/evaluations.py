"""Evaluation tables in MLflow: each is stored once, by its digest, in a run of its own."""

import tempfile
from pathlib import Path

from slipway_contract.registry import Tag, digest_of

from slipway.errors import NoSuchVersion, WrongDigest
from slipway.packaging.evaluation import FILE, EvaluationTable
from slipway.registry.tracking import Tracking

EXPERIMENT = "evaluations"


def store_table(name: str, table: EvaluationTable, tracking: Tracking) -> str:
    """Store the table of a model, unless it is stored already, and return its digest."""
    digest = table.digest
    tags = _tags(name, digest)
    if tracking.finished_run(EXPERIMENT, tags) is None:
        with tracking.run(EXPERIMENT, name, tags) as run:
            run.log(metrics={"rows": len(table.truth)})
            run.log_content(FILE, table.content())
    return digest


def read_table(name: str, digest: str, tracking: Tracking) -> bytes:
    """Return the content of the table of a model. Raises NoSuchVersion, WrongDigest."""
    if (run := tracking.finished_run(EXPERIMENT, _tags(name, digest))) is None:
        raise NoSuchVersion(
            f"{name}: the evaluation table {digest} is not stored; log the version again"
        )
    with tempfile.TemporaryDirectory() as folder:
        content = tracking.download_file(run, FILE, Path(folder)).read_bytes()
    if (found := digest_of(content)) != digest:
        raise WrongDigest(f"{name}: the evaluation table {digest} has the digest {found}")
    return content


def _tags(name: str, digest: str) -> dict[str, str]:
    return {"slipway.model": name, Tag.EVALUATION_DIGEST.value: digest}
