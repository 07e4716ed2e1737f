"""Logging of a fitted model: package, model card and run, and a registered version."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from slipway_contract.registry import (
    CARD_FILE,
    EXAMPLE_FILE,
    NAME,
    NAME_RULE,
    REFERENCE_FILE,
    SIGNATURE_FILE,
    ArtifactFormat,
    Tag,
)
from slipway_contract.signature import Signature

from slipway.errors import WrongParameter
from slipway.packaging.card import card
from slipway.packaging.evaluation import EvaluationTable
from slipway.packaging.frames import as_frame, describe, frame_rows
from slipway.packaging.model import PackagedModel
from slipway.packaging.model_file import read_model
from slipway.packaging.onnx_graph import parse
from slipway.packaging.package import package
from slipway.packaging.reference import reference_of_rows
from slipway.packaging.rows import request_of
from slipway.registry.actor import actor
from slipway.registry.evaluations import store_table
from slipway.registry.flavors import save_description, save_onnx
from slipway.registry.revision import git_revision
from slipway.registry.storing import store_version
from slipway.registry.tracking import Run, Tracking, Version, connect
from slipway.training.metric import Metric

logger = logging.getLogger(__name__)

EXPERIMENT = "training"
"""Prefix of the experiment of each model, without an active run."""

_LIBRARIES = ("scikit-learn", "skl2onnx", "onnx", "numpy", "pandas")


def log_model(
    model: Any,
    name: str,
    *,
    example: Any = None,
    evaluation: tuple[Any, Any] | None = None,
    reference: Any = None,
    signature: Signature | None = None,
    use: str | None = None,
) -> Version:
    """Package a fitted model, log it, and register a version of ``name``.

    ``model`` is an estimator or a pipeline, or the path of a file of ONNX, skops, XGBoost,
    LightGBM or CatBoost.
    Rows are pandas data frames with the columns that the model was fitted on: ``example``, of which
    the first row becomes the version's example; ``evaluation``, held-out rows with their true
    outputs, on which the package is scored; ``reference``, the training rows, to which the drift
    monitor compares requests. At least one of them is given. The model signature is inferred from
    all of them and printed, unless given. ``use`` is the intended use, for the model card.

    The package is an ONNX graph with one typed input per column, compared with the model on all
    rows, otherwise skops. The active run of MLflow is used, otherwise one is started. Raises
    WrongParameter for invalid data, and Refused for a model that cannot be served; then nothing is
    registered. For example::

        slipway.log_model(pipeline, "churn", evaluation=(x_test, y_test), reference=x_train)
    """
    return log_to(
        None, connect(), model, name,
        example=example, evaluation=evaluation, reference=reference, signature=signature, use=use,
    )  # fmt: skip


def log_to(
    run: Run | None,
    tracking: Tracking,
    model: Any,
    name: str,
    *,
    example: Any = None,
    evaluation: tuple[Any, Any] | None = None,
    reference: Any = None,
    signature: Signature | None = None,
    use: str | None = None,
    tags: Mapping[str, str] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Version:
    """Log a fitted model as ``log_model`` does, to a given run if there is one.

    Run and version have the ``tags`` too. ``groups`` are numbers of the evaluation rows [rows],
    equal for rows that depend on each other.
    """
    if not NAME.fullmatch(name):
        raise WrongParameter(f"name: {name!r} is not a name that can be served; {NAME_RULE}")
    frames = _frames(example, evaluation, reference)
    if isinstance(model, str | Path):
        model = read_model(Path(model))
    packaged = package(model, frames, signature)
    table = (
        EvaluationTable.of(packaged.signature, frames["evaluation"], evaluation[1], groups)
        if evaluation
        else None
    )
    scores = _scores(model, packaged, table) if table else {}
    found = packaged.signature
    print(f"{name}: {packaged.form}\n{describe(found.inputs, found.outputs)}")  # noqa: T201  # for the user, who checks it
    return _log(name, packaged, frames, table, scores, use, tracking, run, tags or {})


def _scores(model: Any, packaged: PackagedModel, table: EvaluationTable) -> dict[Metric, float]:
    """Return the scores of the package; none if its signature does not name the classes.

    Raises WrongParameter for classes of a signature that are not those of the model.
    """
    try:
        classes = table.classes
    except WrongParameter as error:
        logger.warning("%s; the version has no scores", error)
        return {}
    fitted = getattr(model, "classes_", ())  # a regressor of CatBoost has none in it
    if len(fitted) and (own := np.asarray(fitted).tolist()) != classes:
        raise WrongParameter(
            f"signature: the classes of the outputs are {classes or 'none'}; those of the model "
            f"are {own}"
        )
    return table.scores(packaged.predict_rows(table.rows))


def _frames(
    example: Any, evaluation: tuple[Any, Any] | None, reference: Any
) -> dict[str, pd.DataFrame]:
    """Return the given rows by parameter, the example last. Raises WrongParameter."""
    if evaluation is not None and not (isinstance(evaluation, tuple) and len(evaluation) == 2):
        raise WrongParameter("evaluation: is not a pair; give (rows, true outputs)")
    given = {
        "reference": reference,
        "evaluation": evaluation[0] if evaluation else None,
        "example": example,
    }
    frames = {
        field: as_frame(rows.to_frame(rows.name or "text"), field)
        if isinstance(rows, pd.Series)
        else as_frame(rows, field)
        for field, rows in given.items()
        if rows is not None
    }
    if not frames:
        raise WrongParameter(
            "reference: is not given, nor evaluation or example; give rows of one of them, from "
            "which the model signature is inferred"
        )
    return frames


def _log(
    name: str,
    packaged: PackagedModel,
    frames: Mapping[str, pd.DataFrame],
    table: EvaluationTable | None,
    scores: Mapping[Metric, float],
    use: str | None,
    tracking: Tracking,
    given: Run | None,
    more_tags: Mapping[str, str],
) -> Version:
    user = actor()
    revision = os.environ.get("SLIPWAY_GIT_REVISION") or git_revision(Path.cwd())
    tags = {
        "slipway.model": name,
        Tag.GIT_REVISION.value: revision,
        Tag.IMAGE.value: os.environ.get("SLIPWAY_IMAGE", "none (logged by a user)"),
        **more_tags,
    }
    if table:
        tags[Tag.EVALUATION_DIGEST.value] = store_table(name, table, tracking)
    text = card(name, use, packaged, _data(frames, table), scores, revision)
    key = os.environ.get("SLIPWAY_SIGNING_KEY")
    with _run(given, tracking, f"{EXPERIMENT}-{name}", name, tags) as run:
        run.log(
            metrics={f"evaluation_{metric.name}": value for metric, value in scores.items()},
            tags={"mlflow.note.content": text},
        )
        return store_version(
            tracking,
            run,
            name,
            _files(packaged, frames, text, run, user, revision),
            packaged.form,
            tags,
            f"{packaged.origin.rstrip('.')}; logged by {user}",
            Path(key) if key else None,
            lambda folder, model_id: _save(packaged, folder, run, model_id),
        )


@contextmanager
def _run(
    given: Run | None, tracking: Tracking, experiment: str, name: str, tags: Mapping[str, str]
) -> Iterator[Run]:
    if given is None:
        with tracking.active_run(experiment, name, tags) as run:
            yield run
        return
    given.log(tags=tags)
    yield given


def _files(
    packaged: PackagedModel,
    frames: Mapping[str, pd.DataFrame],
    text: str,
    run: Run,
    user: str,
    revision: str,
) -> dict[str, bytes]:
    signature = packaged.signature
    *_, example = frames.values()
    provenance = {
        "runId": run.id,
        "loggedBy": user,
        "gitRevision": revision,
        "libraries": {library: metadata.version(library) for library in _LIBRARIES},
        "parity": packaged.parity.as_json() if packaged.parity else None,
    }
    files = {
        SIGNATURE_FILE: signature.model_dump_json(indent=1, exclude_defaults=True).encode(),
        EXAMPLE_FILE: request_of(signature, frame_rows(example[:1], signature.inputs)),
        CARD_FILE: text.encode(),
        "provenance.json": json.dumps(provenance, indent=1).encode(),
    }
    if "reference" in frames:
        rows = frame_rows(frames["reference"], signature.inputs)
        files[REFERENCE_FILE] = reference_of_rows(signature, rows).model_dump_json().encode()
    return files


def _save(packaged: PackagedModel, folder: Path, run: Run, model_id: str) -> None:
    if packaged.form is ArtifactFormat.ONNX:
        save_onnx(parse(packaged.content), folder, packaged.signature, run, model_id)
        return
    folder.mkdir()
    (folder / packaged.form.file).write_bytes(packaged.content)
    save_description(folder, packaged.signature, run, model_id)


def _data(frames: Mapping[str, pd.DataFrame], table: EvaluationTable | None) -> list[str]:
    kinds = {"reference": "Training", "evaluation": "Evaluation", "example": "Example"}
    sentences = [f"{kinds[field]}: {len(frame)} rows." for field, frame in frames.items()]
    return [*sentences, *([f"Digest of the evaluation table: {table.digest}"] if table else [])]
