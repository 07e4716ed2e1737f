"""Client of MLflow: runs, logged models, registered versions, aliases."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# A bar for each of the small files of a package would hide the result of a command.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from slipway_contract.registry import ArtifactFormat, Tag

from slipway.errors import NoSuchVersion, Refused, WrongParameter
from slipway.registry.actor import actor

logger = logging.getLogger(__name__)

MLFLOW_USER = "mlflow.user"
_MOST_FILES = 1000
"""Most files of an artifact with a limited size."""


@dataclass(frozen=True)
class Version:
    """A registered version with its tags."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Digest of its artifact. Raises NoSuchVersion when it has none."""
        return self.tag(Tag.DIGEST)

    def tag(self, key: str) -> str:
        if key not in self.tags:
            raise NoSuchVersion(
                f"{self}: has no tag {key}; Slipway's training writes it, so train or import "
                "the version again"
            )
        return self.tags[key]

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Registration(Version):
    """A registered version, and when it was registered."""

    created: datetime


@dataclass(frozen=True)
class RunRecord:
    """A run as it was recorded."""

    user: str | None
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]


class Run:
    """A run in progress."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self._client = client
        self.id = run_id
        self.experiment_id = experiment_id

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Add parameters, metrics of ``step`` and tags to the run."""
        now = int(time.time() * 1000)
        self._client.log_batch(
            self.id,
            metrics=[
                Metric(name, float(value), now, step) for name, value in (metrics or {}).items()
            ],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def log_dataset(
        self, name: str, source: str, source_type: str, digest: str, context: str
    ) -> None:
        """Add a dataset as an input of the run.

        MLflow stores 36 characters of a digest; a tag has the complete one.
        """
        short = digest.removeprefix("sha256:")[:36]
        logged = LoggedDataset(name, short, source_type, source)
        self._client.log_inputs(
            self.id, [DatasetInput(logged, [InputTag("mlflow.data.context", context)])]
        )

    def log_files(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            self._client.log_text(self.id, text, name)

    def log_content(self, name: str, content: bytes) -> None:
        """Store the content as an artifact of the run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self.upload(path)

    def upload(self, path: Path) -> None:
        """Store the file as an artifact of the run."""
        self._client.log_artifact(self.id, str(path))


def _does_not_exist(error: Exception) -> bool:
    code = error.error_code if isinstance(error, MlflowException) else None
    return bool(code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))


def connect() -> "Tracking":
    """Return the server that MLflow is set to. Raises WrongParameter unless it is one."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        raise WrongParameter(
            f"MLFLOW_TRACKING_URI: MLflow is set to {uri}, which is no server; set the "
            "variable, or call mlflow.set_tracking_uri, with the URL of the tracking server"
        )
    return Tracking(uri)


class Tracking:
    """An MLflow tracking server with its registry.

    Every call blocks; MLflow retries transport errors.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    @contextmanager
    def run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Start a run of the experiment; it ends as FINISHED, FAILED or KILLED with the block."""
        with self.ended(self._start(self._experiment(experiment), name, tags)) as run:
            yield run

    @contextmanager
    def active_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
        """Yield the active run of MLflow, which continues afterwards; without one, start a run."""
        if active := mlflow.active_run():
            run = Run(self._client, active.info.run_id, active.info.experiment_id)
            run.log(tags=tags)
            yield run
            return
        with self.run(experiment, name, tags) as run:
            yield run

    def resumed(
        self, experiment: str, name: str, tags: Mapping[str, str], parent: Run | None = None
    ) -> Run:
        """Resume the run with these tags, or start one below ``parent`` when there is none."""
        experiment_id = self._experiment(experiment)
        found = self._client.search_runs([experiment_id], _with_tags(tags), max_results=1)
        if not found:
            above = {"mlflow.parentRunId": parent.id} if parent else {}
            return self._start(experiment_id, name, {**tags, **above})
        self._client.update_run(found[0].info.run_id, status="RUNNING")
        return Run(self._client, found[0].info.run_id, experiment_id)

    def _start(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        tags = {MLFLOW_USER: actor(), **tags}
        started = self._client.create_run(experiment_id, run_name=name, tags=tags)
        logger.info("run %s, %s", started.info.run_id, name)
        return Run(self._client, started.info.run_id, experiment_id)

    @contextmanager
    def ended(self, run: Run) -> Iterator[Run]:
        """End the run with the block: FINISHED, FAILED or KILLED."""
        try:
            yield run
        except Exception:
            self._client.set_terminated(run.id, "FAILED")
            raise
        except BaseException:
            self._client.set_terminated(run.id, "KILLED")
            raise
        self._client.set_terminated(run.id, "FINISHED")

    def _experiment(self, name: str) -> str:
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except RestException as error:
            # Another Job has created it in the meantime.
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS) or not (
                found := self._client.get_experiment_by_name(name)
            ):
                raise
            return str(found.experiment_id)

    def finished_run(self, experiment: str, tags: Mapping[str, str]) -> str | None:
        """Return the id of the oldest finished run with these tags."""
        if (found := self._client.get_experiment_by_name(experiment)) is None:
            return None
        wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()] + [
            "attributes.status = 'FINISHED'"
        ]
        runs = self._client.search_runs(
            [found.experiment_id],
            " AND ".join(wanted),
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return str(runs[0].info.run_id) if runs else None

    def download_file(self, run_id: str, name: str, folder: Path) -> Path:
        """Download a run's artifact into the folder. Raises NoSuchVersion if unreadable."""
        try:
            return Path(self._client.download_artifacts(run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            raise NoSuchVersion(
                f"{name} of run {run_id} cannot be read from {self._uri}: {error}"
            ) from error

    @contextmanager
    def logged_model(
        self,
        run: Run,
        name: str,
        tags: Mapping[str, str],
        form: ArtifactFormat = ArtifactFormat.ONNX,
    ) -> Iterator[str]:
        """Create a logged model of the run and yield its id; it ends as READY or FAILED."""
        model = self._client.create_logged_model(
            run.experiment_id, name, source_run_id=run.id, tags=dict(tags), model_type=form.value
        )
        try:
            yield model.model_id
        except BaseException:
            self._client.finalize_logged_model(model.model_id, "FAILED")
            raise
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(run.id, [LoggedModelOutput(model.model_id, 0)])

    def upload(self, model_id: str, folder: Path) -> None:
        """Store the folder as the logged model's artifact."""
        self._client.log_model_artifacts(model_id, str(folder))

    def attach(self, version: Version, path: Path) -> None:
        """Store a file with the version's artifact, replacing one of that name.

        Raises NoSuchVersion.
        """
        found = self._client.get_model_version(version.name, version.version)
        source = version.tags.get(Tag.ARTIFACT, found.source or "")
        if not source.startswith("models:/m-"):
            raise NoSuchVersion(
                f"{version}: its artifact at {source} belongs to no logged model, so "
                "nothing can be stored with it"
            )
        self._client.log_model_artifact(source.removeprefix("models:/"), str(path))

    def download(self, source: Version | str, folder: Path, limit: int | None = None) -> Path:
        """Download the artifact of a version or of a logged model's id; return its path.

        Raises NoSuchVersion, and Refused for an artifact of more than ``limit`` bytes.
        """
        try:
            uri = self._uri_of(source)
            if limit is not None:
                self._check_size(source, uri, limit)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=uri, dst_path=str(folder), tracking_uri=self._uri
                )
            )
        except (MlflowException, OSError) as error:
            raise NoSuchVersion(
                f"{source}: its artifact cannot be read from {self._uri}: {error}"
            ) from error

    def _uri_of(self, source: Version | str) -> str:
        if isinstance(source, str):
            return str(self._client.get_logged_model(source).artifact_location)
        if adopted := source.tags.get(Tag.ARTIFACT):
            return self._uri_of(adopted.removeprefix("models:/"))
        return str(self._client.get_model_version_download_uri(source.name, source.version))

    def file(self, version: Version, name: str, limit: int) -> bytes | None:
        """Return a file of the version's artifact.

        None when it has no such file, or one of more than ``limit`` bytes. Raises NoSuchVersion
        when the artifact cannot be read.
        """
        try:
            uri = self._uri_of(version).rstrip("/")
            found = mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=self._uri)
            sizes = {each.path.rpartition("/")[2]: each.file_size for each in found}
            if (size := sizes.get(name)) is None or size > limit:
                return None
            with tempfile.TemporaryDirectory() as folder:
                path = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{uri}/{name}", dst_path=folder, tracking_uri=self._uri
                )
                return Path(path).read_bytes()
        except (MlflowException, OSError) as error:
            if _does_not_exist(error):
                return None
            raise NoSuchVersion(
                f"{version}: {name} cannot be read from {self._uri}: {error}"
            ) from error

    def _check_size(self, source: Version | str, uri: str, limit: int) -> None:
        folders, size, files = [uri], 0, 0
        while folders:
            folder = folders.pop()
            for each in mlflow.artifacts.list_artifacts(
                artifact_uri=folder, tracking_uri=self._uri
            ):
                files += 1
                size += each.file_size or 0
                if each.is_dir:
                    folders.append(f"{folder.rstrip('/')}/{each.path.rpartition('/')[2]}")
            if size > limit or files > _MOST_FILES:
                raise Refused(
                    f"{source}: its artifact has {files} files and {size} bytes or more; at most "
                    f"{_MOST_FILES} files and {limit} bytes are read"
                )

    def register(
        self, name: str, model_id: str, run: Run, tags: Mapping[str, str], description: str
    ) -> Version:
        """Create a version together with all its tags, so that it is never visible without them."""
        try:
            self._client.create_registered_model(name)
        except RestException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        created = self._client.create_model_version(
            name,
            f"models:/{model_id}",
            run.id,
            dict(tags),
            description=description,
            model_id=model_id,
        )
        return Version(name, str(created.version), run.id, dict(tags))

    def version(self, name: str, version: str) -> Version:
        """Return the version with its tags. Raises NoSuchVersion."""
        try:
            return _version(self._client.get_model_version(name, version))
        except RestException as error:
            if not _does_not_exist(error):
                raise
            raise NoSuchVersion(f"{name}/{version}: the registry has no such version") from None

    def tagged(self, name: str, tags: Mapping[str, str]) -> Version | None:
        """Return the newest version with these tags; None when there is none."""
        found = self._client.search_model_versions(
            f"name = '{name}' and {_with_tags(tags)}", max_results=1
        )
        return _version(found[0]) if found else None

    def versions(self, name: str, most: int) -> list[Version]:
        """Return at most ``most`` versions of a registered model, the newest first."""
        return [_version(each) for each in self._newest(name, most)]

    def registrations(self, name: str, most: int) -> list[Registration]:
        """Return at most ``most`` versions with their times, the newest first.

        Raises NoSuchVersion when the registry cannot be read.
        """
        try:
            found = self._newest(name, most)
        except MlflowException as error:
            raise NoSuchVersion(f"{name}: its versions cannot be read: {error}") from error
        return [
            Registration(
                **vars(_version(each)),
                created=datetime.fromtimestamp(each.creation_timestamp / 1000, UTC),
            )
            for each in found
        ]

    def _newest(self, name: str, most: int) -> "list[mlflow.entities.model_registry.ModelVersion]":
        found = self._client.search_model_versions(
            f"name = '{name}'", max_results=most, order_by=["version_number DESC"]
        )
        return list(found)

    def aliases(self, name: str) -> dict[str, str]:
        """Return the versions of the aliases of a registered model. Raises NoSuchVersion."""
        try:
            found = self._client.get_registered_model(name).aliases
        except MlflowException as error:
            raise NoSuchVersion(f"{name}: its aliases cannot be read: {error}") from error
        return {alias: str(version) for alias, version in found.items()}

    def run_record(self, run_id: str) -> RunRecord | None:
        """Return a run; None when there is none. Raises NoSuchVersion when it cannot be read."""
        try:
            data = self._client.get_run(run_id).data
        except MlflowException as error:
            if _does_not_exist(error):
                return None
            raise NoSuchVersion(f"run {run_id} cannot be read from {self._uri}: {error}") from error
        return RunRecord(data.tags.get(MLFLOW_USER), dict(data.params), dict(data.metrics))

    def aliased(self, name: str, alias: str) -> Version | None:
        """Return the version that the alias points to; None when there is none."""
        try:
            found = self._client.get_registered_model(name).aliases.get(alias)
        except RestException as error:
            if not _does_not_exist(error):
                raise
            found = None
        return None if found is None else self.version(name, str(found))

    def point(self, name: str, alias: str, version: Version) -> None:
        """Move the alias to the version."""
        self._client.set_registered_model_alias(name, alias, version.version)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, version.version, key, value)

    def log_to(self, version: Version, metrics: Mapping[str, float]) -> None:
        """Add metrics to the version's run."""
        Run(self._client, version.run_id, "").log(metrics=metrics)

    def metrics(self, version: Version) -> dict[str, float]:
        """Return the metrics of the version's run."""
        return dict(self._client.get_run(version.run_id).data.metrics)


def _with_tags(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())


def _version(found: "mlflow.entities.model_registry.ModelVersion") -> Version:
    return Version(found.name, str(found.version), str(found.run_id or ""), dict(found.tags))
