"""Rules of an installed package: found by the name in the artifact, checked, and run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_serving.artifact import Artifact
from slipway_serving.errors import Refused
from slipway_serving.rules import RulePredictor

from tests.serving.artifacts import TEXT, write_rules
from tests.serving.counting import WORDS, install
from tests.serving.test_storage import get
from tests.serving.tracking_server import TrackingServer, uri_of


def stored(folder: Path, **changed: Any) -> Path:
    path = folder / "model.rules"
    path.write_text(json.dumps({**WORDS.model_dump(), **changed}))
    return path


def compound(rules: RulePredictor, text: str) -> float:
    return float(rules.run({"text": np.array([text], dtype=object)}, ["compound"])["compound"][0])


def test_the_words_are_those_of_the_artifact(tmp_path: Path) -> None:
    rules = RulePredictor(stored(tmp_path, words={"snug": 1.0}), TEXT)
    assert compound(rules, "snug") == 1
    assert compound(rules, "good") == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"rules": "afinn"},
            "model.rules: the rules 'afinn' are declared by 0 installed packages, not by one "
            "(installed rules: ",
        ),
        ({"version": "4.0"}, "model.rules: the words are for counting 4.0, not 1.0"),
        (
            {"words": {"good": "very"}},
            "model.rules is not a rule set: words.good: Input should be a valid number",
        ),
        (
            {"words": {"good": float("nan")}},
            "model.rules is not a rule set: words.good: Input should be a finite number",
        ),
        (
            {"words": {}},
            "model.rules is not a rule set: words: Dictionary should have at least 1 item",
        ),
    ],
)
def test_unsupported_rules_and_invalid_words_are_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        RulePredictor(stored(tmp_path, **changed), TEXT)
    assert str(refused.value).startswith(reason)


def test_a_file_without_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.rules").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(Refused, match=r"model.rules is not a rule set: Invalid JSON"):
        RulePredictor(tmp_path / "model.rules", TEXT)


def test_a_signature_that_does_not_match_the_rules_is_refused(tmp_path: Path) -> None:
    probability = Column(name="probability", datatype=Datatype.FP32)
    with pytest.raises(Refused, match=r"model.rules: the rules return compound and label, not pro"):
        RulePredictor(stored(tmp_path), Signature(inputs=TEXT.inputs, outputs=(probability,)))


def test_rules_of_two_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "counting = tests.serving.counting:load", name="second")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refused, match=r"'counting' are declared by 2 installed packages"):
        RulePredictor(stored(tmp_path), TEXT)


@pytest.mark.parametrize("value", ["tests.serving.nowhere:load", "tests.serving.counting:nothing"])
def test_rules_that_cannot_be_imported_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(tmp_path, f"broken = {value}", name="broken")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refused, match=r"model.rules: the rules 'broken' cannot be imported: "):
        RulePredictor(stored(tmp_path, rules="broken"), TEXT)


def test_an_artifact_of_rules_needs_no_opt_in(mlflow: TrackingServer, tmp_path: Path) -> None:
    manifest = write_rules(tmp_path / "artifact")
    dest = tmp_path / "models"
    version, _ = mlflow.register("sentiment", tmp_path / "artifact")
    get(mlflow, uri_of("sentiment", version, manifest), dest)
    rules = Artifact.read(dest, ArtifactFormat.RULES).load()
    outputs = rules.run({"text": np.array(["a good day"], dtype=object)}, ["label"])
    assert outputs["label"].tolist() == [2]
