"""Score a registered version on held-out data, as it would be served."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_contract.registry import ArtifactManifest, Tag

from slipway_jobs.datasets.dataset_store import kept
from slipway_jobs.datasets.sources import DATASETS, load
from slipway_jobs.errors import NoSuchVersion, WrongDigest
from slipway_jobs.formats.served import Served
from slipway_jobs.registry import artifact
from slipway_jobs.registry.tracking import Tracking, Version
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.metric import baseline_scores, scores, strongest
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
        """The version's scores by metric: its stored model, digest-checked, on the held-out rows.
        Raises WrongDigest.
        """
        outputs = served_by(version, tracking).run(self.task.feeds(self.split.test.features))
        found = scores(self.task.metrics, self.split.test.labels, self.task.predictions(outputs))
        logger.info("%s on %d held-out rows: %s", version, len(self.split.test), _short(found))
        return found

    def baseline(self) -> dict[str, float]:
        """Of each metric the best that the baselines reach."""
        metrics, split = self.task.metrics, self.split
        return strongest(
            metrics, baseline_scores(metrics, self.task.target.baselines, split.train, split.test)
        )


def held_out_of(task: Task, version: Version, settings: Settings, tracking: Tracking) -> HeldOut:
    """Have the version's dataset and part it as its training did.

    It is had from the store, by its digest; that of a version older than the store, from where it
    came from. Raises WrongDigest when that is not what the version was trained on: its held-out
    rows would not be held out.
    """
    name, digest = version.tag(Tag.DATASET), version.tag(Tag.DATASET_DIGEST)
    if name not in DATASETS:
        raise NoSuchVersion(f"{version}: was trained on {name!r}, which is not in the catalogue")
    if (table := kept(name, digest, tracking)) is None:
        table = load(DATASETS[name], settings)
    if table.digest != digest:
        raise WrongDigest(
            f"{version} was trained on {name} with the digest {digest}; what loads now has "
            f"{table.digest}"
        )
    return HeldOut(task, name, digest, task.parts(table, DATASETS[name].subject))


def evaluate(
    task: Task, version: Version, settings: Settings, tracking: Tracking
) -> dict[str, Any]:
    """Score a version, and write the scores to its run and its tags; the result as JSON."""
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
    """The version's model file, with the whole artifact checked against its digest. Raises
    WrongDigest, NoSuchVersion.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, manifest = fetch(version, tracking, Path(temporary))
        return Served(manifest.format, (folder / manifest.format.file).read_bytes())


def fetch(version: Version, tracking: Tracking, folder: Path) -> tuple[Path, ArtifactManifest]:
    """The version's artifact, checked, and where it is inside the folder. Raises WrongDigest naming
    the version.
    """
    stored = tracking.download(version, folder)
    try:
        return stored, artifact.check(stored, version.digest)
    except WrongDigest as error:
        raise WrongDigest(f"{version}: {error}") from None


def _short(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items())
