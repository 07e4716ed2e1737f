"""Heartbeats: the table, the generator, and models scored on held-out records."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.errors import CorruptTable, Leakage
from slipway.packaging.inference import run_onnx
from slipway.packaging.onnx_graph import export
from slipway.registry.tracking import Tracking
from slipway.training.dataset import Table
from slipway.training.fitting import cross_validate
from slipway.training.installed import declared_dataset, declared_task
from slipway.training.metric import scores
from slipway.training.split import Split, check_split
from slipway.training.task import Task, parse_parameters
from slipway_contract.registry import Tag
from slipway_ecg.beat_shape import WIDTH, BeatShape
from slipway_ecg.mitbih import BEAT, read_beats
from slipway_ecg.synthetic_beats import synthetic_beats
from slipway_jobs.datasets.dataset_store import stored_table
from slipway_jobs.datasets.sources import load
from slipway_jobs.formats.served import Served
from slipway_jobs.promotion.evaluation import fetch
from slipway_jobs.settings import Settings
from slipway_jobs.training.confusion import confusions
from slipway_jobs.training.training import check_parity

from tests.jobs.conftest import Trainer
from tests.jobs.tables import with_cell

ECG, BINARY = declared_task("ecg"), declared_task("ecg-binary")
SYNTHETIC = synthetic_beats(records=20, beats=30)
RECORDED = pytest.mark.skipif(
    "SLIPWAY_DATA" not in os.environ, reason="set SLIPWAY_DATA to a mirror with the beats"
)


def file_of(table: Table) -> bytes:
    lines = ["record,label," + ",".join(f"x{position}" for position in range(187))]
    for beat, label, record in zip(
        table.features.tolist(), table.labels, table.groups.tolist(), strict=True
    ):
        lines.append(",".join([record.decode(), str(label), *(repr(value) for value in beat)]))
    return ("\n".join(lines) + "\n").encode()


FILE = file_of(SYNTHETIC.take(np.arange(20)))


def test_the_table_is_read_plain_and_compressed() -> None:
    expected = SYNTHETIC.take(np.arange(20)).digest
    assert read_beats(FILE, "beats.csv").digest == expected
    assert read_beats(gzip.compress(FILE), "beats.csv.gz").digest == expected


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        (0, "1 0 0", "line 7, column record: '1 0 0' is not the name of a record"),
        (1, "5", "line 7, column label: '5' is not one of 0, 1, 2, 3, 4"),
        (1, "", "line 7, column label: '' is not one of"),
        (2, "", "line 7, column x0: '' is not a number"),
        (90, "high", "line 7, column x88: 'high' is not a number"),
        (188, "1.0001", "line 7, column x186: 1.0001 is not from 0 to 1"),
        (188, "nan", "line 7, column x186: nan is not from 0 to 1"),
        (50, "-0.1", "line 7, column x48: -0.1 is not from 0 to 1"),
        (50, "0.1,0.2", "line 7: has 190 columns; 189 are expected"),
    ],
)
def test_a_corrupt_row_is_refused_by_line_and_column(column: int, cell: str, reason: str) -> None:
    with pytest.raises(CorruptTable) as refused:
        read_beats(with_cell(FILE, 7, column, cell), "beats.csv")
    assert str(refused.value).startswith(f"beats.csv {reason}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1: has 0 columns"),
        (FILE.replace(b"x3,", b"x4,", 1), "line 1, column 6: is 'x4'; 'x3' is expected"),
        (FILE.splitlines()[0], ": has no rows"),
        (gzip.compress(FILE)[:-9], "cannot be unpacked"),
        (gzip.compress(b"0" * (65 * 2**20), 1), "has more than 67108864 bytes unpacked"),
    ],
)
def test_a_file_without_a_table_of_beats_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(CorruptTable, match=reason):
        read_beats(content, "beats.csv")


def test_synthetic_beats_fit_the_schema_and_depend_on_the_seed_alone() -> None:
    BEAT.check_values(SYNTHETIC.features.ravel().tolist())
    assert np.unique(SYNTHETIC.labels).tolist() == [0, 1, 2, 3, 4]
    lengths = (SYNTHETIC.features > 0).sum(axis=1)
    assert 1.2 * 60 / 110 * 125 * 0.8 < lengths.min() < lengths.max() <= 187
    assert len(np.unique(SYNTHETIC.groups)) == 20
    assert synthetic_beats(2, 5, seed=1).digest == synthetic_beats(2, 5, seed=1).digest
    assert synthetic_beats(2, 5, seed=1).digest != synthetic_beats(2, 5, seed=2).digest


def test_the_features_of_a_beat_have_the_delay_of_the_next_one() -> None:
    beat = np.zeros((1, 187), dtype=np.float32)
    beat[0, :120] = 0.2
    beat[0, [0, 100]] = 1.0
    shape = BeatShape().fit(beat).transform(beat)
    assert shape.shape == (1, WIDTH)
    length, late, ratio = shape[0, 120:123]
    assert (length, late, ratio) == (120, 100, np.float32(100) / np.float32(120))


def exported(task: Task, table: Table, **parameters: str) -> tuple[Any, Served]:
    estimator = next(
        iter(task.estimators(parse_parameters(task, {"trees": "10", **parameters})).values())
    )
    estimator.fit(table.features, table.labels)
    return estimator, Served.of(export(estimator, task.signature))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "estimator"), [(ECG, "forest"), (ECG, "boosting"), (ECG, "cnn"), (BINARY, "forest")]
)
def test_labels_are_equal_and_probabilities_within_the_tolerance_on_all_held_out_rows(
    task: Task, estimator: str, settings: Settings
) -> None:
    table = load(declared_dataset("ecg-mitbih"), settings) if settings.data else SYNTHETIC
    split = task.parts(table, "record")
    model, graph = exported(task, split.train, estimator=estimator, trees="4")
    assert check_parity(task, graph, model, split.test.features) < 1e-4


def test_unusual_beats_have_the_predictions_of_the_estimator() -> None:
    model, graph = exported(ECG, SYNTHETIC)
    odd = np.zeros((4, 187), dtype=np.float32)
    odd[1], odd[2, :3], odd[3, 186] = 1, 1, 1
    assert check_parity(ECG, graph, model, odd) < 1e-4


def test_a_record_in_both_parts_is_detected() -> None:
    shuffled = np.random.default_rng(0).permutation(len(SYNTHETIC))
    leaky = Split(SYNTHETIC.take(shuffled[180:]), SYNTHETIC.take(shuffled[:180]), "beats at random")
    with pytest.raises(
        Leakage, match="20 rows or subjects of the held-out data are in the training data too"
    ):
        check_split(SYNTHETIC, leaky, ECG.split)


def test_a_record_is_in_one_fold_only() -> None:
    for fitting, scoring in ECG.split.folds(SYNTHETIC, ECG.target, 5, 0):
        assert not np.intersect1d(SYNTHETIC.groups[fitting], SYNTHETIC.groups[scoring]).size


def test_a_model_that_recognizes_records_gains_nothing() -> None:
    """Labels depend on the record only: a split by beat can score, a split by record cannot."""
    random = np.random.default_rng(0)
    share = {name: random.integers(0, 2) for name in np.unique(SYNTHETIC.groups).tolist()}
    by_record = np.array([share[name] for name in SYNTHETIC.groups.tolist()])
    table = replace(SYNTHETIC, labels=by_record)
    parameters = parse_parameters(BINARY, {"trees": "20"})
    forest = next(iter(BINARY.estimators(parameters).values()))
    honest = np.mean(cross_validate(BINARY, forest, table, parameters)["accuracy"])
    leaky = replace(table, groups=table.keys)
    leaked = np.mean(cross_validate(BINARY, forest, leaky, parameters)["accuracy"])
    assert honest < 0.7 < 0.85 < leaked


@RECORDED
@pytest.mark.slow
def test_recorded_beats_are_classified_better_than_by_a_plain_forest(settings: Settings) -> None:
    """Compare with RandomForest(100) on the samples by record, whose macro-F1 is 0.33."""
    table = load(declared_dataset("ecg-mitbih"), settings)
    found = []
    for seed in ("0", "1"):
        parameters = parse_parameters(ECG, {"trees": "30", "seed": seed})
        found += cross_validate(
            ECG, next(iter(ECG.estimators(parameters).values())), table, parameters
        )["macro_f1"]
    assert np.mean(found) > 0.42
    assert np.mean(found) - np.std(found) > 0.33


@pytest.fixture(scope="module")
def trained_ecg(trained: Trainer) -> dict[str, Any]:
    return trained(ECG, trees="20", folds="3")


def test_the_metrics_can_be_computed_again_from_the_stored_files(
    trained_ecg: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    version = tracking.version("ecg", trained_ecg["version"])
    folder, _ = fetch(version, tracking, tmp_path)
    provenance, evaluation = (
        json.loads((folder / name).read_bytes()) for name in ("provenance.json", "evaluation.json")
    )
    table = stored_table(version.tag(Tag.DATASET), version.tag(Tag.DATASET_DIGEST), tracking)
    assert table is not None
    subjects = {
        part: set(provenance["split"][part]["subjects"]) for part in ("training", "heldOut")
    }
    assert not subjects["training"] & subjects["heldOut"]
    assert {name.decode() for name in table.groups.tolist()} == subjects["training"] | subjects[
        "heldOut"
    ]

    held_out = table.take(np.isin(table.groups, [name.encode() for name in subjects["heldOut"]]))
    assert held_out.digest == provenance["split"]["heldOut"]["digest"]
    outputs = run_onnx((folder / "model.onnx").read_bytes(), {"beat": held_out.features})
    again = scores(ECG.metrics, held_out.labels, ECG.predictions(outputs))
    assert again == pytest.approx(evaluation["metrics"], abs=1e-6)
    assert again == pytest.approx(trained_ecg["metrics"], abs=1e-6)
    (found,) = confusions(ECG, held_out, outputs["label"]).values()
    assert found.as_json() == evaluation["classes"]["all"]
    logged = tracking.metrics(version)
    assert logged["test_macro_f1"] == pytest.approx(again["macro_f1"], abs=1e-6)
    assert logged["test_recall_v_ventricular"] == pytest.approx(found.recall["V ventricular"])


def test_the_card_has_the_confusion_matrix(
    trained_ecg: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    folder, _ = fetch(tracking.version("ecg", trained_ecg["version"]), tracking, tmp_path)
    card = (folder / "model_card.md").read_text()
    assert (
        "| rows | N normal | S supraventricular | V ventricular | F fusion | Q paced or "
        "unclassifiable |"
    ) in card
    assert "Not a medical device" in card
    assert f"| {trained_ecg['metrics']['macro_f1']:.3f} |" in card
