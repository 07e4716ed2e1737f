"""Scores of a registered version on held-out data, computed as it is served."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import NoSuchVersion, WrongDigest
from slipway.packaging import artifact
from slipway.registry.tracking import Tracking, Version
from slipway.training.metric import scores
from slipway_contract.registry import ArtifactManifest, Tag

from slipway_jobs.datasets.dataset_store import stored_table
from slipway_jobs.datasets.sources import DATASETS, load
from slipway_jobs.formats.served import Served
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.baseline import baseline_scores, strongest
from slipway_jobs.tasks.split import Split
from slipway_jobs.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows of the dataset that a version was trained on."""

    task: Task
    dataset: str
    digest: str
    split: Split

    def score(self, version: Version, tracking: Tracking) -> dict[str, float]:
        """Return the version's scores by metric, of its verified model file on the held-out rows.

        Raises WrongDigest.
        """
        outputs = served_by(version, tracking).run(self.task.feeds(self.split.test.features))
        found = scores(self.task.metrics, self.split.test.labels, self.task.predictions(outputs))
        logger.info("%s on %d held-out rows: %s", version, len(self.split.test), _short(found))
        return found

    def baseline(self) -> dict[str, float]:
        """Return the best score of each metric that any baseline has."""
        metrics, split = self.task.metrics, self.split
        return strongest(
            metrics, baseline_scores(metrics, self.task.target.baselines, split.train, split.test)
        )


def held_out_of(task: Task, version: Version, settings: Settings, tracking: Tracking) -> HeldOut:
    """Load the version's dataset and split it as its training did.

    The dataset is read from the dataset store by its digest, otherwise from its source. Raises
    WrongDigest when it differs from what the version was trained on, because its held-out rows
    would not be held out.
    """
    name, digest = version.tag(Tag.DATASET), version.tag(Tag.DATASET_DIGEST)
    if name not in DATASETS:
        raise NoSuchVersion(f"{version}: was trained on {name!r}, which is not a declared dataset")
    if (table := stored_table(name, digest, tracking)) is None:
        table = load(DATASETS[name], settings)
    if table.digest != digest:
        raise WrongDigest(
            f"{version} was trained on {name} with the digest {digest}; its source now has "
            f"{table.digest}"
        )
    return HeldOut(task, name, digest, task.parts(table, DATASETS[name].subject))


def evaluate(
    task: Task, version: Version, settings: Settings, tracking: Tracking
) -> dict[str, Any]:
    """Score a version, write the scores to its run and its tags, and return the result as JSON."""
    held_out = held_out_of(task, version, settings, tracking)
    found = held_out.score(version, tracking)
    tracking.log_to(version, {f"evaluate_{name}": value for name, value in found.items()})
    tracking.tag(
        version, {f"slipway.evaluation.{name}": repr(value) for name, value in found.items()}
    )
    return {
        "state": "evaluated",
        "model": version.name,
        "version": version.version,
        "dataset": held_out.dataset,
        "rows": len(held_out.split.test),
        "metrics": found,
        "baseline": held_out.baseline(),
    }


def served_by(version: Version, tracking: Tracking) -> Served:
    """Return the version's model file from its verified artifact.

    Raises WrongDigest, NoSuchVersion.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, manifest = fetch(version, tracking, Path(temporary))
        return Served(manifest.format, (folder / manifest.format.file).read_bytes())


def fetch(version: Version, tracking: Tracking, folder: Path) -> tuple[Path, ArtifactManifest]:
    """Download and verify the version's artifact; return its folder and manifest.

    Raises WrongDigest with the version's name.
    """
    stored = tracking.download(version, folder)
    try:
        return stored, artifact.check(stored, version.digest)
    except WrongDigest as error:
        raise WrongDigest(f"{version}: {error}") from None


def _short(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())
