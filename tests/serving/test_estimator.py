"""Estimators from skops files, and from joblib files by opt-in: trusted types and signatures."""

from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import sklearn
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_serving.errors import Refused
from slipway_serving.estimator import Estimator

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 2)).astype(np.float32)
CLASSES = (ROWS[:, 0] > 0).astype(int)


def signature(*outputs: Column) -> Signature:
    return Signature(
        inputs=tuple(Column(name=name, datatype=Datatype.FP32) for name in "ab"), outputs=outputs
    )


LABEL = Column(name="label", datatype=Datatype.INT64)
PROBABILITY = Column(name="probability", datatype=Datatype.FP32)
PROBABILITIES = Column(name="probabilities", datatype=Datatype.FP32, shape=(2,))


def stored(path: Path, model: Any) -> Path:
    skops.io.dump(model, path / "model.skops")
    return path / "model.skops"


def columns(rows: Any) -> dict[str, Any]:
    return {"a": rows[:, 0], "b": rows[:, 1]}


@pytest.mark.parametrize(
    "model",
    [
        GradientBoostingClassifier(n_estimators=3),
        HistGradientBoostingClassifier(max_iter=3),
        KNeighborsClassifier(),
    ],
)
def test_common_classifiers_have_their_own_predictions(tmp_path: Path, model: Any) -> None:
    model.fit(ROWS, CLASSES)
    loaded = Estimator(
        stored(tmp_path, model), ArtifactFormat.SKOPS, signature(LABEL, PROBABILITY, PROBABILITIES)
    )
    given = loaded.run(columns(ROWS), ["label", "probability", "probabilities"])
    np.testing.assert_array_equal(given["label"], model.predict(ROWS))
    np.testing.assert_allclose(given["probabilities"], model.predict_proba(ROWS))
    np.testing.assert_allclose(given["probability"], model.predict_proba(ROWS)[:, 1])


def test_a_regressor_has_one_value(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, ROWS[:, 0] * 2)
    loaded = Estimator(
        stored(tmp_path, model),
        ArtifactFormat.SKOPS,
        signature(Column(name="price", datatype=Datatype.FP32)),
    )
    np.testing.assert_allclose(loaded.run(columns(ROWS), ["price"])["price"], model.predict(ROWS))


def test_an_estimator_fitted_on_named_columns_receives_them_by_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"b": ["red", "blue"] * 30, "a": ROWS[:, 0]})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["b"]), remainder="passthrough"),
        LogisticRegression(),
    )
    model.fit(table, CLASSES)
    inputs = (Column(name="a", datatype=Datatype.FP32), Column(name="b", datatype=Datatype.BYTES))
    loaded = Estimator(
        stored(tmp_path, model),
        ArtifactFormat.SKOPS,
        Signature(inputs=inputs, outputs=(PROBABILITY,)),
    )
    given = loaded.run(
        {"a": ROWS[:, 0], "b": np.array(["red", "blue"] * 30, object)}, ["probability"]
    )
    np.testing.assert_allclose(given["probability"], model.predict_proba(table)[:, 1], rtol=1e-6)


def test_a_missing_text_is_nan_for_the_estimator(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": ["x", None, "y", "y"], "b": [1.0, 2.0, 3.0, 4.0]})
    encoder = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["a"]),
        remainder="passthrough",
    )
    model = make_pipeline(encoder, LinearRegression()).fit(table, [1.0, 2.0, 3.0, 5.0])
    inputs = (
        Column(name="a", datatype=Datatype.BYTES, missing=True),
        Column(name="b", datatype=Datatype.FP32),
    )
    value = Column(name="value", datatype=Datatype.FP32)
    estimator = Estimator(
        stored(tmp_path, model), ArtifactFormat.SKOPS, Signature(inputs=inputs, outputs=(value,))
    )
    rows = {"a": np.array(["x", "", "y", "y"], object), "b": np.arange(1, 5, dtype=np.float32)}
    given = estimator.run(rows, ["value"])["value"]
    assert given == pytest.approx(model.predict(table))


def test_a_regressor_of_several_targets_has_a_vector(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, ROWS * 2)
    value = Column(name="value", datatype=Datatype.FP32, shape=(2,))
    loaded = Estimator(stored(tmp_path, model), ArtifactFormat.SKOPS, signature(value))
    np.testing.assert_allclose(loaded.run(columns(ROWS), ["value"])["value"], model.predict(ROWS))


WORDS = ["good day", "bad day", "ok good", "bad bad"]


def test_a_pipeline_of_texts_takes_one_text_per_row(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(WORDS, [1, 0, 1, 0])
    texts = Signature(
        inputs=(Column(name="text", datatype=Datatype.BYTES),), outputs=(LABEL, PROBABILITY)
    )
    loaded = Estimator(stored(tmp_path, model), ArtifactFormat.SKOPS, texts)
    given = loaded.run({"text": np.array(["good", "bad"], object)}, ["label", "probability"])
    assert given["label"].tolist() == [1, 0]
    np.testing.assert_allclose(given["probability"], model.predict_proba(["good", "bad"])[:, 1])
    with pytest.raises(
        Refused,
        match="the estimator takes texts; the signature must have one input, BYTES, a scalar",
    ):
        Estimator(tmp_path / "model.skops", ArtifactFormat.SKOPS, signature(LABEL))


@pytest.mark.parametrize("form", [ArtifactFormat.SKOPS, ArtifactFormat.JOBLIB])
@pytest.mark.parametrize("version", ["1.3.2", f"{sklearn.__version__.rpartition('.')[0]}.99"])
def test_an_estimator_of_another_feature_release_of_scikit_learn_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: ArtifactFormat, version: str
) -> None:
    """scikit-learn writes its version into each saved estimator."""
    model, path = LogisticRegression().fit(ROWS, CLASSES), tmp_path / form.file
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", version)
        (skops.io.dump if form is ArtifactFormat.SKOPS else joblib.dump)(model, path)
    if version != "1.3.2":  # another patch release is only logged
        assert Estimator(path, form, signature(LABEL)).run(columns(ROWS), ["label"])
        return
    with pytest.raises(
        Refused,
        match=f"1.3.2, and predictions may differ with scikit-learn {sklearn.__version__}: fit and",
    ):
        Estimator(path, form, signature(LABEL))


class Untrusted:
    """A type that is not on the list of trusted types."""


@pytest.mark.parametrize(
    "untrusted", [FunctionTransformer(print), FunctionTransformer(kw_args={"x": Untrusted()})]
)
def test_untrusted_types_and_functions_are_not_loaded(
    tmp_path: Path, untrusted: FunctionTransformer
) -> None:
    model = make_pipeline(untrusted, LogisticRegression())
    with pytest.raises(Refused, match=r"^model\.skops cannot be loaded: Untrusted types found"):
        Estimator(stored(tmp_path, model), ArtifactFormat.SKOPS, signature(LABEL))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken"])
def test_an_invalid_skops_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(Refused, match=r"^model\.skops cannot be loaded: "):
        Estimator(tmp_path / "model.skops", ArtifactFormat.SKOPS, signature(LABEL))


@pytest.mark.parametrize(
    ("model", "outputs", "reason"),
    [
        (
            LogisticRegression().fit(ROWS[:, :1], CLASSES),
            [LABEL],
            "fitted on 1 values per row; the signature has 2",
        ),
        (
            LogisticRegression().fit(pd.DataFrame(ROWS, columns=["a", "c"]), CLASSES),
            [LABEL],
            "fitted on a, c; the signature has a, b",
        ),
        (
            IsolationForest(n_estimators=2).fit(ROWS),
            [PROBABILITY],
            "needs an estimator that gives probabilities",
        ),
        (
            LogisticRegression().fit(ROWS, np.arange(60) % 3),
            [PROBABILITIES],
            "output 'probabilities' has shape [2]; there are 3 classes",
        ),
    ],
)
def test_a_mismatch_is_reported(
    tmp_path: Path, model: Any, outputs: list[Column], reason: str
) -> None:
    with pytest.raises(Refused) as caught:
        Estimator(stored(tmp_path, model), ArtifactFormat.SKOPS, signature(*outputs))
    assert reason in str(caught.value)


def test_a_joblib_file_that_cannot_be_loaded_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"no pickle")
    with pytest.raises(Refused, match=r"^model\.joblib cannot be loaded: "):
        Estimator(tmp_path / "model.joblib", ArtifactFormat.JOBLIB, signature(LABEL))
    joblib.dump(LogisticRegression().fit(ROWS, CLASSES), tmp_path / "model.joblib")
    assert Estimator(tmp_path / "model.joblib", ArtifactFormat.JOBLIB, signature(LABEL))
