"""The example ``images``: photographs through the gateway, and what is stored of them."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.local.conftest import LocalStack
from tests.support.waiting import wait_for

pytestmark = pytest.mark.stack

PATH = "/v1/models/images/predictions?top=5"
CATS = range(281, 286)
NOISE = b"what a camera, or an author, has put behind the image" * 100
ENDS = ("succeeded", "failed", "dead", "cancelled")


def photograph(name: str) -> bytes:
    return (Path("tests/testdata/photographs") / f"{name}.jpg").read_bytes()


def send(user: httpx.Client, *files: bytes, **headers: str) -> httpx.Response:
    parts = [("image", ("photograph", content)) for content in files]
    return user.post(PATH, files=parts, headers=headers)


def test_photographs_of_a_cat_and_of_an_espresso_are_named(user: httpx.Client) -> None:
    answer = send(user, photograph("chelsea"), photograph("coffee"))
    assert answer.status_code == 200, answer.text
    cat, coffee = answer.json()["predictions"]
    assert (cat["label"], cat["top"][0]["name"]) == (282, "tiger cat")
    assert cat["top"][0]["probability"] == pytest.approx(0.384, abs=0.01)
    assert sum(each["label"] in CATS for each in cat["top"]) >= 3
    assert (coffee["label"], coffee["top"][0]["name"]) == (967, "espresso")
    assert coffee["top"][0]["probability"] == pytest.approx(0.954, abs=0.01)
    assert [len(row["top"]) for row in (cat, coffee)] == [5, 5]


def test_the_stored_image_is_without_the_data_behind_it(user: httpx.Client) -> None:
    answer = send(user, photograph("chelsea") + NOISE)
    assert answer.status_code == 200, answer.text
    request = answer.json()["requestId"]
    stored = wait_for(
        "the image",
        lambda: (a := user.get(f"/v1/predictions/{request}/images/0")).is_success and a,
    )
    assert stored.content == photograph("chelsea")


def test_a_photograph_is_predicted_asynchronously(user: httpx.Client) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": "coffee-1"}
    accepted = send(user, photograph("coffee"), **headers)
    assert accepted.status_code == 202, accepted.text
    # httpx separates the parts of each form by another random text.
    again = send(user, photograph("coffee"), **headers)
    assert (again.status_code, again.json()["taskId"]) == (202, accepted.json()["taskId"])
    other = send(user, photograph("chelsea"), **headers)
    assert other.status_code == 422, other.text

    def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = user.get(accepted.headers["Location"]).json()
        return task if task["state"] in ENDS else None

    task = wait_for("the end of the task", ended)
    assert task["state"] == "succeeded", task
    assert task["result"]["predictions"][0]["label"] == 967


def test_the_document_asks_for_a_file_instead_of_all_values(
    stack: LocalStack, user: httpx.Client
) -> None:
    paths = user.get("/v1/openapi.json").json()["paths"]
    content = paths["/v1/models/images/predictions"]["post"]["requestBody"]["content"]
    assert "example" not in content["application/json"]
    assert content["multipart/form-data"]["schema"]["required"] == ["image"]
    assert stack.live("images") == "1"
