"""Pickles are detected by their content, not by their name."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from slipway_contract.pickles import is_pickle, named_like_a_pickle

BAD = pickle.dumps(os.getcwd)


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps(os.getcwd, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        gzip.compress(BAD, mtime=0),
        zlib.compress(BAD),
        bz2.compress(BAD),
        lzma.compress(BAD),
        lzma.compress(BAD, lzma.FORMAT_ALONE),
        archive("archive/data.pkl", BAD),
        archive("innocent.bin", BAD),
    ],
)
def test_a_pickle_is_detected_by_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert is_pickle(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"1. A numbered list.\n",
        b"2. Second.\n",
        b"N.B. this is a text.\n",
        b"channels:\n- conda-forge\ndependencies:\n- python=3.11\n",
        json.dumps({"inputs": [1, 2]}).encode(),
        gzip.compress(b"a text", mtime=0),
        archive("schema.json", b"{}"),
        b"PK\x03\x04 broken",
    ],
)
def test_other_files_are_not_pickles(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert not is_pickle(tmp_path / "file")


def test_a_graph_is_not_a_pickle(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 40, dtype=np.float32).reshape(-1, 2)
    forest = RandomForestClassifier(5, random_state=0).fit(rows, rows[:, 0] > 0.5)
    (tmp_path / "model.onnx").write_bytes(to_onnx(forest, rows[:1]).SerializeToString())
    assert not is_pickle(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["a.pkl", "A.PKL", "b/c.joblib", "x.pickle.gz", "w.pt"])
def test_a_suffix_of_pickles_is_detected(name: str) -> None:
    assert named_like_a_pickle(name)
    assert not named_like_a_pickle("model.onnx")
