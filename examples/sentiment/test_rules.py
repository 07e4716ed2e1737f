"""VADER's rules as predictors and Jobs run them: by the name in the file of the artifact."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from slipway.training.installed import declared_task
from slipway_contract.rules import load_rules
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_sentiment.vader import vader
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

from tests.support.predictor_process import started

SIGNATURE = declared_task("sentiment").signature
WORDS = {
    "rules": "vader",
    "version": "3.3.2",
    "lexicon": {"good": 1.9},
    "emoji": {"😀": "good face"},
}
KNOWN = "VADER is smart, handsome, and funny!"
"""Sentence of the documentation of VADER, whose compound score is 0.8439 there."""
TEXTS = [
    KNOWN,
    "VADER is VERY SMART, handsome, and FUNNY!!!",
    "Not bad at all",
    "",
    "   \n\t ",
    "Make sure you :) or :D today, but I'll get by 💋",
    "Das Wetter ist schön, 日本語, \u202eright to left\u202c, e\u0301",
    "\x00 hate",
    "a" * 2000,
]


def stored(**changed: Any) -> bytes:
    return json.dumps({**WORDS, **changed}).encode()


def compound(content: bytes, *texts: str) -> list[float]:
    scores = load_rules(content).run({"text": np.array(texts, dtype=object)})["compound"]
    return [float(score) for score in scores]


def test_the_words_are_those_of_the_artifact() -> None:
    content = stored(lexicon={"snug": 3.0}, emoji={"🦊": "snug"})
    snug, fox, other = compound(content, "snug", "🦊", "good 😀")
    assert snug == fox > 0.5
    assert other == 0


def test_a_file_is_that_of_versions_of_earlier_releases() -> None:
    content = vader().model_dump_json()
    assert content.startswith('{"rules":"vader","version":"3.3.2","lexicon":{"$:":-1.5,')
    assert list(json.loads(content)) == ["rules", "version", "lexicon", "emoji"]
    assert compound(content.encode(), KNOWN) == pytest.approx([0.8439], abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"version": "4.0"}, "the words are for vader 4.0, and 3.3.2 is installed"),
        ({"lexicon": {"good": "very"}}, "lexicon.good"),
        ({"lexicon": {"good": float("nan")}}, "lexicon.good"),
        ({"lexicon": {}}, "lexicon"),
        ({"code": "import os"}, "code"),
    ],
)
def test_another_release_and_invalid_words_are_refused(
    changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        load_rules(stored(**changed))


@pytest.mark.parametrize(
    "signature",
    [
        Signature(
            inputs=(*SIGNATURE.inputs, Column(name="age", datatype=Datatype.FP32)),
            outputs=SIGNATURE.outputs,
        ),
        Signature(inputs=(Column(name="age", datatype=Datatype.FP32),), outputs=SIGNATURE.outputs),
        Signature(
            inputs=SIGNATURE.inputs, outputs=(Column(name="probability", datatype=Datatype.FP32),)
        ),
        Signature(
            inputs=SIGNATURE.inputs, outputs=(Column(name="compound", datatype=Datatype.FP64),)
        ),
    ],
)
def test_a_signature_that_does_not_match_the_rules_is_refused(signature: Signature) -> None:
    rules = load_rules(stored())
    rules.check(SIGNATURE)
    with pytest.raises(ValueError, match=r"the rules (take one text per row|return compound)"):
        rules.check(signature)


def test_the_worst_text_of_the_allowed_length_takes_less_than_a_second() -> None:
    """VADER scans all words again for each word of its list."""
    content = stored(lexicon={"x": 1.0, "no": -1.2})
    started_at = time.process_time()
    compound(content, "x but " + "z x " * 498)
    assert time.process_time() - started_at < 1


def test_a_predictor_serves_the_rules_and_their_scores_are_those_of_the_package(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "sentiment"
    folder.mkdir()
    (folder / "model.rules").write_text(vader().model_dump_json())
    (folder / "signature.json").write_text(SIGNATURE.model_dump_json())
    settings = {
        "implementation": "slipway_serving.model.SlipwayModel",
        "parameters": {"version": "1", "extra": {"format": "rules"}},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    request = SIGNATURE.request([{"text": text} for text in TEXTS])
    with started(folder, tmp_path / "predictor.log", name="sentiment") as predictor:
        served: httpx.Response = predictor.infer(request.model_dump(mode="json", exclude_none=True))
    assert served.status_code == 200, served.text
    scores, codes = served.json()["outputs"]
    own = SentimentIntensityAnalyzer()
    assert scores["data"] == pytest.approx(
        [own.polarity_scores(text)["compound"] for text in TEXTS], abs=1e-6
    )
    assert scores["data"][0] == pytest.approx(0.8439, abs=1e-6)
    assert codes["data"] == [
        2 if score >= 0.05 else 0 if score <= -0.05 else 1 for score in scores["data"]
    ]
