"""Rule sets: supported rules, valid words and signatures."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_serving.artifact import Artifact
from slipway_serving.errors import Refused
from slipway_serving.rules import Rules

from tests.serving.artifacts import TEXT, write_rules
from tests.serving.test_storage import get
from tests.serving.tracking_server import TrackingServer, uri_of

WORDS = {
    "rules": "vader",
    "version": "3.3.2",
    "lexicon": {"good": 1.9},
    "emoji": {"😀": "good face"},
}


def stored(folder: Path, **changed: Any) -> Path:
    path = folder / "model.rules"
    path.write_text(json.dumps({**WORDS, **changed}))
    return path


def compound(rules: Rules, text: str) -> float:
    return float(rules.run({"text": np.array([text], dtype=object)}, ["compound"])["compound"][0])


def test_the_words_are_those_of_the_artifact(tmp_path: Path) -> None:
    rules = Rules(stored(tmp_path, lexicon={"snug": 3.0}, emoji={"🦊": "snug"}), TEXT)
    assert compound(rules, "snug") > 0.5
    assert compound(rules, "🦊") == compound(rules, "snug")
    assert compound(rules, "good 😀") == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"rules": "afinn"},
            "model.rules is for the rules 'afinn' '3.3.2'; this server supports vader 3.3.2",
        ),
        (
            {"version": "4.0"},
            "model.rules is for the rules 'vader' '4.0'; this server supports vader 3.3.2",
        ),
        (
            {"lexicon": {"good": "very"}},
            "model.rules is not a rule set: lexicon.good: Input should be a valid number",
        ),
        (
            {"lexicon": {"good": float("nan")}},
            "model.rules is not a rule set: lexicon.good: Input should be a finite number",
        ),
        (
            {"lexicon": {}},
            "model.rules is not a rule set: lexicon: Dictionary should have at least 1 item",
        ),
        (
            {"code": "import os"},
            "model.rules is not a rule set: code: Extra inputs are not permitted",
        ),
    ],
)
def test_unsupported_rules_and_invalid_words_are_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused) as refused:
        Rules(stored(tmp_path, **changed), TEXT)
    assert str(refused.value).startswith(reason)


def test_a_file_without_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.rules").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(Refused, match=r"model.rules is not a rule set: Invalid JSON"):
        Rules(tmp_path / "model.rules", TEXT)


@pytest.mark.parametrize(
    "signature",
    [
        Signature(
            inputs=(*TEXT.inputs, Column(name="age", datatype=Datatype.FP32)), outputs=TEXT.outputs
        ),
        Signature(inputs=(Column(name="age", datatype=Datatype.FP32),), outputs=TEXT.outputs),
        Signature(
            inputs=TEXT.inputs, outputs=(Column(name="probability", datatype=Datatype.FP32),)
        ),
        Signature(inputs=TEXT.inputs, outputs=(Column(name="compound", datatype=Datatype.FP64),)),
    ],
)
def test_a_signature_that_does_not_match_the_rules_is_refused(
    tmp_path: Path, signature: Signature
) -> None:
    with pytest.raises(
        Refused, match=r"model.rules: rules (take one text per row|return compound)"
    ):
        Rules(stored(tmp_path), signature)


def test_an_artifact_of_rules_needs_no_opt_in(mlflow: TrackingServer, tmp_path: Path) -> None:
    manifest = write_rules(tmp_path / "artifact")
    dest = tmp_path / "models"
    version, _ = mlflow.register("sentiment", tmp_path / "artifact")
    get(mlflow, uri_of("sentiment", version, manifest), dest)
    rules = Artifact.read(dest, ArtifactFormat.RULES).load()
    outputs = rules.run({"text": np.array(["a good day"], dtype=object)}, ["label"])
    assert outputs["label"].tolist() == [2]


def test_the_worst_text_of_the_allowed_length_takes_less_than_a_second(tmp_path: Path) -> None:
    """VADER scans all words again for each word of its list."""
    rules = Rules(stored(tmp_path, lexicon={"x": 1.0, "no": -1.2}), TEXT)
    started = time.process_time()
    compound(rules, "x but " + "z x " * 498)
    assert time.process_time() - started < 1
