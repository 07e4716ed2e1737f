"""Texts: rules and a regression behind one contract, the rated data, and the drift of texts."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.errors import CorruptTable, NoSuchVersion, ParityError
from slipway.packaging.reference import Reference, reference_of
from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_dataset, declared_task
from slipway.training.split import Split
from slipway.training.task import parse_parameters
from slipway_contract.errors import InvalidInput
from slipway_contract.registry import ArtifactFormat, Tag
from slipway_contract.v2 import parse_request
from slipway_jobs.formats.served import Served
from slipway_jobs.monitoring.drift import compare
from slipway_jobs.monitoring.monitoring import inputs
from slipway_jobs.promotion.evaluation import evaluate, fetch
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import Fitted, check_parity, fit
from slipway_sentiment.ratings import KINDS, read_ratings
from slipway_sentiment.sentences import synthetic_sentences
from slipway_sentiment.task import Vader
from slipway_sentiment.vader import Lexicon, vader

from tests.jobs.conftest import Trainer

TASK = declared_task("sentiment")
UNUSUAL = [
    "",
    "   \n\t",
    "GOOD good",
    "it's good, isn't it?!",
    "日本語 schön é 💋 :)",
    "a\x00b",
    "good " * 400,
    "\u202egood\u202c",
]


def texts(*each: str) -> np.ndarray[Any, Any]:
    return np.array(each, dtype=object).reshape(-1, 1)


@pytest.fixture(scope="module")
def split() -> Split:
    return TASK.split.hold_out(synthetic_sentences(), TASK.target, "synthetic sentence")


@pytest.fixture(scope="module")
def words(split: Split) -> Fitted:
    return fit(TASK, parse_parameters(TASK, {"estimator": "words", "folds": "2"}), split)


def test_rules_equal_their_package_for_any_text() -> None:
    served = Served.of(vader())
    assert served.format is ArtifactFormat.RULES
    assert check_parity(TASK, served, Vader(), texts(*UNUSUAL)) < 1e-6
    outputs = served.run({"text": texts("I love it!", "It is a table.", "I hate it!", "")})
    assert outputs["label"].tolist() == [2, 1, 0, 1]
    assert outputs["compound"][0] > 0.5 > -0.5 > outputs["compound"][2]


def test_rules_with_other_words_fail_the_parity_and_another_release_is_not_run() -> None:
    other = Lexicon(rules="vader", version=vader().version, lexicon={"table": 3.0})
    with pytest.raises(ParityError):
        check_parity(TASK, Served.of(other), Vader(), texts("a table"))
    with pytest.raises(
        NoSuchVersion, match=r"for vader 9, and 3.3.2 is installed; install vaderSentiment 9"
    ):
        Served.of(other.model_copy(update={"version": "9"})).run({"text": texts("a table")})


def test_words_are_weighted_inside_the_graph_for_any_text(words: Fitted) -> None:
    assert check_parity(TASK, words.served, words.estimator, texts(*UNUSUAL)) < 1e-4
    outputs = words.served.run(
        {"text": texts("The soup was wonderful!", "The soup was terrible!", *UNUSUAL)}
    )
    assert outputs["label"][:2].tolist() == [2, 0]
    assert outputs["compound"].shape == (2 + len(UNUSUAL),)
    for score, label in zip(outputs["compound"].tolist(), outputs["label"].tolist(), strict=True):
        assert -1 <= score <= 1
        assert label == (2 if score >= np.float32(0.05) else 0 if score <= -np.float32(0.05) else 1)


def test_a_text_has_a_maximum_length() -> None:
    assert TASK.signature.request([{"text": ""}]).inputs[0].data == [""]
    with pytest.raises(InvalidInput, match="text: has 2001 characters; 2000 are allowed"):
        TASK.signature.request([{"text": "é" * 2001}])


@pytest.mark.slow
def test_rules_are_replaced_by_words_and_words_by_rules_through_the_gate(
    trained: Trainer, settings: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    """On the synthetic sentences, rules have the better score."""
    task = replace(TASK, name="sentiment-gate")
    results = [
        trained(task, estimator=kind, dataset="sentences-synthetic", folds="2")
        for kind in ("words", "rules")
    ]
    regression, rules = (tracking.version(task.name, result["version"]) for result in results)
    assert (regression.tags[Tag.FORMAT], rules.tags[Tag.FORMAT]) == ("onnx", "rules")
    states = [
        promote(task, version, PromotionRequest("gate"), settings, tracking)["state"]
        for version in (regression, rules, regression)
    ]
    assert states == ["promoted", "promoted", "refused"]
    assert evaluate(task, rules, settings, tracking)["metrics"] == pytest.approx(
        results[1]["metrics"], abs=1e-4
    )
    folder, manifest = fetch(rules, tracking, tmp_path)
    assert manifest.format is ArtifactFormat.RULES
    assert {entry.path for entry in manifest.files} >= {
        "model.rules",
        "MLmodel",
        "signature.json",
        "model_card.md",
    }
    card = (folder / "model_card.md").read_text()
    assert "SYNTHETIC" in card
    assert "Served as data of rules whose code is in the server" in card
    assert "| text | a sentence or a few, in English |  | 2000 characters | no |" in card
    assert (
        "| label | neutral is between -0.05 and 0.05 |  | 0 negative, 1 neutral, 2 positive | no |"
        in card
    )
    assert Lexicon.model_validate_json((folder / "model.rules").read_bytes()) == vader()
    assert (
        TASK.signature.check(parse_request((folder / "input_example.json").read_bytes()).inputs)
        == 1
    )


def test_on_rated_texts_the_regression_is_better_than_rules() -> None:
    path = Path(os.environ.get("SLIPWAY_DATA", "/nowhere")) / "hutto_ICWSM_2014.tar.gz"
    if not path.is_file():
        pytest.skip("SLIPWAY_DATA has no rated texts")
    entry = declared_dataset("rated-texts")
    table = read_ratings(path.read_bytes(), path.name)
    assert table.digest == entry.digest
    assert len(table) == 23_619
    part = TASK.split.hold_out(table, TASK.target, entry.subject)
    assert not np.intersect1d(part.train.groups, part.test.groups).size
    few = replace(part, test=part.test.take(np.arange(0, len(part.test), 5)))
    found = [
        TASK.target.predict(each, few.test.features)
        for each in (Vader(), _words().fit(few.train.features, few.train.labels))
    ]
    rules, regression = (
        TASK.selection.score(few.test.labels, predictions) for predictions in found
    )
    assert 0.5 < rules < 0.6 < regression < 0.75


def _words() -> Any:
    (estimator,) = TASK.estimators(parse_parameters(TASK, {"estimator": "words"})).values()
    return estimator


def archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            entry.size = len(text.encode())
            made.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


PARTS = {
    kind: f"1_1\t2.0\tgood {kind}\r\n1_2\t-4\tbad {kind}\r\n2_1\t0\tgood {KINDS[0]}"
    for kind in KINDS
}


def test_rated_texts_are_read_with_their_documents_without_duplicates() -> None:
    table = read_ratings(archive(PARTS), "a.tar.gz")
    rows = dict(
        zip(
            table.features.ravel().tolist(),
            zip(table.labels, table.groups, strict=True),
            strict=True,
        )
    )
    assert len(table) == 2 * len(KINDS)
    assert rows["good tweets"] == (0.5, b"tweets 1")
    assert rows["bad movieReviewSnippets"] == (-1.0, b"movieReviewSnippets 1")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "1_1\t5\tgood",
            (
                "a.tar.gz, tweets_GroundTruth.txt line 2, column rating: '5' is not a number "
                "from -4 to 4"
            ),
        ),
        (
            "1_1\tvery\tgood",
            "a.tar.gz, tweets_GroundTruth.txt line 2, column rating: 'very' is not a number",
        ),
        ("1_1\tgood", "a.tar.gz, tweets_GroundTruth.txt line 2: has 2 columns; 3 are expected"),
    ],
)
def test_a_corrupt_line_of_the_archive_is_named(line: str, expected: str) -> None:
    with pytest.raises(CorruptTable) as refused:
        read_ratings(archive({**PARTS, "tweets": f"1\t1\tfine\r\n{line}\r\n"}), "a.tar.gz")
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive", mtime=0), archive({"tweets": "1\t1\tfine"})],
)
def test_an_invalid_archive_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptTable, match=r"^a.tar.gz: (is not a readable archive|has no amazon)"):
        read_ratings(content, "a.tar.gz")


def body(each: list[str]) -> str:
    return TASK.signature.request([{"text": text} for text in each]).model_dump_json()


def test_the_monitor_compares_length_and_unknown_words_of_texts(split: Split) -> None:
    reference = Reference.model_validate_json(
        reference_of(TASK.signature, split.train.features).model_dump_json()
    )
    assert [column.name for column in reference.columns] == ["text length", "text unknown words"]
    held_out = split.test.features.ravel().tolist()

    def drifted(each: list[str]) -> list[str]:
        seen, read, unreadable = inputs(TASK.signature, [body(each)], reference.words)
        assert (len(seen), read, unreadable) == (len(each), 1, 0)
        return [column.name for column in compare(reference, seen) if column.drifted]

    assert drifted(held_out) == []
    assert drifted([" ".join([text] * 3) for text in held_out]) == ["text length"]
    assert "text unknown words" in drifted(
        [text.translate({ord("a"): "ö", ord("e"): "ü"}) for text in held_out]
    )
    assert drifted([""] * 100) == ["text length", "text unknown words"]


def test_the_reference_stores_common_words_and_no_text(split: Split) -> None:
    stored = reference_of(TASK.signature, split.train.features).model_dump_json()
    assert json.loads(stored)["words"][0] == "was"
    assert not any(text in stored for text in split.train.features.ravel().tolist())
