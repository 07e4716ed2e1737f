"""New versions under load, rollback, and modified artifacts."""

import httpx
import pytest
from slipway_cluster import INFERENCE_SERVICE
from slipway_contract.model import ConditionType, RollbackState, RollbackStatus

from tests.local.conftest import LocalStack
from tests.support.load import Load
from tests.support.stack import PATIENT, pixels, v2
from tests.support.waiting import wait_for

pytestmark = pytest.mark.stack

ZEROS = pixels([0.0] * 64)


def test_promotion_and_rollback_under_load_fail_no_request_and_receipts_show_the_switch(
    stack: LocalStack, user: httpx.Client
) -> None:
    trained = stack.job("train-heart", "--set", "seed=7")
    first, second = stack.live("heart"), str(trained["version"])
    assert first
    with Load(stack.url, stack.token("user"), "/v2/models/heart/infer", v2(PATIENT)) as load:
        wait_for("answers of the first version", lambda: load.versions.count(first) > 20)
        stack.job("promote", "heart", second, "--rollback", "--reason", "test of a switch")
        wait_for("answers of the second version", lambda: load.versions.count(second) > 40)
        stack.job("promote", "heart", first, "--rollback", "--reason", "test of the way back")
        wait_for(
            "the first version again",
            lambda: load.versions[-1] == first and load.versions[-20] == first,
        )
    assert set(load.statuses) == {200}
    assert load.errors == []
    switched = load.answered[load.versions.index(second)]
    assert user.get(f"/v1/predictions/{switched}").json()["version"] == second


def test_a_rollback_of_the_model_changes_the_answers_and_then_the_alias(
    stack: LocalStack, user: httpx.Client
) -> None:
    first = stack.live("heart")
    assert first
    second = str(stack.job("train-heart", "--set", "seed=8")["version"])

    def serves(version: str) -> bool:
        answer = user.post("/v2/models/heart/infer", json=v2(PATIENT))
        return answer.headers["Slipway-Version"] == version

    def rollback() -> RollbackStatus | None:
        return stack.model("heart").status.rollback

    stack.job("promote", "heart", second, "--rollback", "--reason", "test of a rollback")
    wait_for("the second version", lambda: serves(second))
    wait_for(
        "the controller to read the alias",
        lambda: stack.model("heart").status.alias_version == second,
    )
    with stack.client("scientist") as scientist:
        answer = scientist.post("/v1/models/heart/rollback", json={"reason": "wrong scores"})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["version"], answer.json()["insteadOf"]) == (first, [second])
    wait_for("the first version", lambda: serves(first))
    ended = wait_for(
        "the Job to move the alias", lambda: (found := rollback()) and found.is_final and found
    )
    assert ended.state == RollbackState.ENDED, ended
    assert stack.model("heart").status.alias_version == first
    assert serves(first)
    assert not stack.degraded("heart")


def test_a_worse_version_is_not_promoted_and_the_job_reports_the_reason(stack: LocalStack) -> None:
    before = stack.live("heart")
    worse = stack.job("train-heart", "--set", "C=0.00001")
    refused = stack.job("promote", "heart", str(worse["version"]))
    assert refused["status"] == "Failed"
    assert refused["reason"]
    assert stack.live("heart") == before


def test_a_version_with_one_changed_byte_is_rejected_and_the_old_one_stays_live(
    stack: LocalStack, user: httpx.Client
) -> None:
    before = stack.live("digits")
    trained = stack.job("train-digits", "--set", "seed=3")
    flip_a_byte(stack)
    refused = stack.job("promote", "digits", str(trained["version"]))
    assert "model.onnx" in refused["reason"]
    stack.move_alias("digits", str(trained["version"]))
    message = wait_for("the reason in the status", lambda: stack.degraded("digits"))
    assert message.startswith("DigestMismatch: ")
    assert "model.onnx" in message
    assert stack.live("digits") == before
    assert user.post("/v2/models/digits/infer", json=ZEROS).headers["Slipway-Version"] == before
    stack.move_alias("digits", before)
    wait_for("the model to be as wanted", lambda: not stack.degraded("digits"))


def test_a_modified_live_version_is_rejected_at_its_restart_and_the_kept_one_takes_over(
    stack: LocalStack, user: httpx.Client
) -> None:
    kept = stack.live("digits")
    trained = stack.job("train-digits", "--set", "seed=5")
    stack.move_alias("digits", str(trained["version"]))
    wait_for("the new version to be live", lambda: stack.live("digits") == str(trained["version"]))
    flip_a_byte(stack)
    stack.cluster.delete(INFERENCE_SERVICE, f"digits-{trained['version']}")
    wait_for("the kept version to take over", lambda: stack.live("digits") == kept)
    assert stack.degraded("digits").startswith("DigestMismatch: ")
    ready = stack.model("digits").status.condition(ConditionType.READY)
    assert ready
    assert ready.status == "True"
    wait_for(
        "answers of the kept version",
        lambda: user.post("/v2/models/digits/infer", json=ZEROS).is_success,
    )
    stack.move_alias("digits", kept)


def flip_a_byte(stack: LocalStack) -> None:
    """Change one byte of the newest model file in the artifact store."""
    newest = max(
        (stack.state / "artifacts").glob("**/model.onnx"), key=lambda path: path.stat().st_mtime
    )
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
