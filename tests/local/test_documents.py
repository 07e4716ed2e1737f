"""The commands of README and docs, against the local stack."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from joserfc.jwk import ECKey
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from slipway_contract.model import ConditionType

from tests.documents import PAGES, ROOT, blocks, run, workplace
from tests.local.conftest import START_SECONDS, LocalStack
from tests.support.stack import PATIENT
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1800)]

LOCAL = [page for page in PAGES if any(block.mark == "run: local" for block in blocks(page))]


def test_there_are_pages_to_run() -> None:
    assert ROOT / "README.md" in LOCAL


@pytest.mark.parametrize("page", LOCAL, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work(stack: LocalStack, page: Path, tmp_path: Path) -> None:
    folder = workplace(tmp_path / "checkout", stack.state)
    if prepare := PREPARATIONS.get(page.name):
        prepare(stack, folder)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")
    }
    run(page, "run: local", folder, environment | {"SLIPWAY_FETCH": "false"})


# --- prerequisites of the pages


def images(_: LocalStack, folder: Path) -> None:
    """Write the files of docs/reference/gateway.md: a dark seven on a light ground."""
    seven = np.full((64, 64), 255, np.uint8)
    seven[12:18, 16:48] = 0
    for row in range(18, 54):
        seven[row, 44 - (row - 18) // 2 : 49 - (row - 18) // 2] = 0
    Image.fromarray(seven).save(folder / "seven.png")
    Image.fromarray(seven).convert("RGB").save(folder / "photo.jpg")


def patients(_: LocalStack, folder: Path) -> None:
    """Write the file of docs/how-to/batches.md."""
    pd.DataFrame([PATIENT] * 3).to_csv(folder / "patients.csv", index=False)


def models(stack: LocalStack, folder: Path) -> None:
    """Write the files of docs/how-to/models.md: a network, and a signed manifest."""
    manifest = next(
        each
        for each in stack.state.glob("artifacts/**/manifest.json")
        if "heart" in (each.parent / "model_card.md").read_text()
    )
    for name in ("manifest.json", "manifest.sig"):
        (folder / name).write_bytes((manifest.parent / name).read_bytes())
    key = ECKey.import_key((stack.state / "signing-key.pem").read_bytes())
    (folder / "trusted.pem").write_bytes(key.as_pem(private=False))
    network(folder)


def network(folder: Path) -> None:
    """Write a classifier of images with the shapes of a published one."""
    shape, classes = [3, 224, 224], 1000
    weights = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["data"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "squeezenet",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["rows", *shape])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "squeezenet.onnx").write_bytes(model.SerializeToString())
    image = {"width": 224, "height": 224, "layout": "CHW", "fit": "cover"}
    image |= {"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}
    output = {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [classes],
        "minimum": 0,
        "maximum": 1,
    }
    signature = {
        "inputs": [{"name": "data", "datatype": "FP32", "shape": shape, "image": image}],
        "outputs": [{**output, "classes": [f"class {number}" for number in range(classes)]}],
    }
    (folder / "squeezenet.json").write_text(json.dumps(signature))
    rows = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    scores = np.exp(rows.mean(axis=(2, 3)) @ weights)
    np.savez(
        folder / "known.npz", data=rows, probabilities=scores / scores.sum(axis=1, keepdims=True)
    )


def sales(stack: LocalStack, folder: Path) -> None:
    """Write the file of docs/how-to/quantity.md and serve the model of its first commands."""
    first, days = datetime.now(UTC).date() - timedelta(days=400), 400
    rng, lines = np.random.default_rng(0), ["date,store,product,units,promotion,price"]
    for store in ("Bremen", "Kiel"):
        for product, price in (("bread", 2.5), ("milk", 1.2)):
            for number in range(days):
                day = first + timedelta(days=number)
                units = rng.poisson(40 + 10 * (day.weekday() == 5))
                lines.append(f"{day},{store},{product},{units},0,{price}")
    (folder / "sales.csv").write_text("\n".join(lines) + "\n")
    assert stack.job("etl")["status"] == "Complete"
    trained = stack.job("train-quantity")
    assert stack.job("promote", "quantity", str(trained["version"]))["status"] == "Complete"
    stack.cluster.apply(yaml.safe_load((ROOT / "examples/sales/model.yaml").read_text()))
    wait_for("quantity to be served", lambda: is_ready(stack, "quantity"), START_SECONDS)


def is_ready(stack: LocalStack, model: str) -> bool:
    condition = stack.model(model).status.condition(ConditionType.READY)
    return condition is not None and condition.status == "True"


PREPARATIONS: dict[str, Callable[[LocalStack, Path], None]] = {
    "gateway.md": images,
    "batches.md": patients,
    "models.md": models,
    "quantity.md": sales,
}
