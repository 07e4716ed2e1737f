"""New versions under load, rollback, and artifacts that somebody changed."""

import httpx
import pytest
from slipway_cluster import INFERENCE_SERVICE
from slipway_contract.model import ConditionType

from tests.load import Load
from tests.local.conftest import RunningRing
from tests.stack import PATIENT, pixels, v2, wait_for

pytestmark = pytest.mark.ring

ZEROS = pixels([0.0] * 64)


def test_promotion_and_rollback_under_load_fail_no_request_and_receipts_show_the_switch(
    ring: RunningRing, user: httpx.Client
) -> None:
    trained = ring.job("train-heart", "--set", "seed=7")
    first, second = ring.live("heart"), str(trained["version"])
    assert first
    with Load(ring.url, ring.token("user"), "/v2/models/heart/infer", v2(PATIENT)) as load:
        wait_for("answers of the first version", lambda: load.versions.count(first) > 20)
        ring.job("promote", "heart", second, "--rollback", "--reason", "test of a switch")
        wait_for("answers of the second version", lambda: load.versions.count(second) > 40)
        ring.job("promote", "heart", first, "--rollback", "--reason", "test of the way back")
        wait_for("the first version again", lambda: load.versions[-1] == first and load.versions[-20] == first)
    assert set(load.statuses) == {200}
    assert load.errors == []
    switched = load.answered[load.versions.index(second)]
    assert user.get(f"/v1/predictions/{switched}").json()["version"] == second


def test_a_version_that_is_worse_is_not_promoted_and_the_job_says_why(ring: RunningRing) -> None:
    before = ring.live("heart")
    worse = ring.job("train-heart", "--set", "C=0.00001")
    refused = ring.job("promote", "heart", str(worse["version"]))
    assert refused["status"] == "Failed"
    assert refused["reason"]
    assert ring.live("heart") == before


def test_a_version_with_one_changed_byte_is_refused_and_the_old_one_stays_live(ring: RunningRing, user: httpx.Client) -> None:
    before = ring.live("digits")
    trained = ring.job("train-digits", "--set", "seed=3")
    flip_a_byte(ring)
    refused = ring.job("promote", "digits", str(trained["version"]))
    assert "model.onnx" in refused["reason"]
    ring.move_alias("digits", str(trained["version"]))
    said = wait_for("the status to say why", lambda: ring.degraded("digits"))
    assert said.startswith("DigestMismatch: ")
    assert "model.onnx" in said
    assert ring.live("digits") == before
    assert user.post("/v2/models/digits/infer", json=ZEROS).headers["Slipway-Version"] == before
    ring.move_alias("digits", before)
    wait_for("the model to be as wanted", lambda: not ring.degraded("digits"))


def test_a_live_version_that_was_changed_is_refused_at_its_restart_and_the_kept_one_takes_over(
    ring: RunningRing, user: httpx.Client
) -> None:
    kept = ring.live("digits")
    trained = ring.job("train-digits", "--set", "seed=5")
    ring.move_alias("digits", str(trained["version"]))
    wait_for("the new version to be live", lambda: ring.live("digits") == str(trained["version"]))
    flip_a_byte(ring)
    ring.cluster.delete(INFERENCE_SERVICE, f"digits-{trained['version']}")
    wait_for("the kept version to take over", lambda: ring.live("digits") == kept)
    assert ring.degraded("digits").startswith("DigestMismatch: ")
    ready = ring.model("digits").status.condition(ConditionType.READY)
    assert ready
    assert ready.status == "True"
    wait_for("answers of the kept version", lambda: user.post("/v2/models/digits/infer", json=ZEROS).is_success)
    ring.move_alias("digits", kept)


def flip_a_byte(ring: RunningRing) -> None:
    """Change one byte of the newest model file in the artifact store."""
    newest = max((ring.state / "artifacts").glob("**/model.onnx"), key=lambda path: path.stat().st_mtime)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
