"""Behaviour of every cluster: the same tests run on the local cluster and on Kubernetes."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from slipway_cluster import (
    CRON_JOB,
    JOB,
    LEASE,
    MODEL,
    Cluster,
    Conflict,
    Invalid,
    Kind,
    Manifest,
    NotFound,
    WatchEvent,
)

from tests.cluster.manifests import (
    autoscaler,
    cron_job,
    job,
    lease,
    model,
    runtime,
    service,
    storage,
)
from tests.support.processes import START_SECONDS
from tests.support.waiting import SECONDS, until


def condition(manifest: Manifest, kind: str) -> Manifest | None:
    every = manifest.get("status", {}).get("conditions", [])
    return next((each for each in every if each["type"] == kind and each["status"] == "True"), None)


def finished_job(cluster: Cluster, name: str) -> Manifest:
    return until(
        lambda: cluster.get(JOB, name),
        lambda seen: condition(seen, "Complete") or condition(seen, "Failed"),
        START_SECONDS,
    )


@pytest.mark.parametrize(
    "manifest",
    [runtime(), storage(), service(), autoscaler(), lease()],
    ids=lambda each: each["kind"],
)
def test_objects_of_every_kind_are_stored_and_found(cluster: Cluster, manifest: Manifest) -> None:
    kind = Kind(
        manifest["apiVersion"],
        manifest["kind"],
        namespaced=not manifest["kind"].startswith("Cluster"),
    )
    first = cluster.apply(manifest)
    # A Lease and an autoscaler have no generation on a real cluster.
    assert cluster.apply(manifest)["metadata"].get("generation") == first["metadata"].get(
        "generation"
    )
    name = manifest["metadata"]["name"]
    assert cluster.get(kind, name)["spec"] == first["spec"]
    assert name in [each["metadata"]["name"] for each in cluster.list(kind)]
    assert next(cluster.watch(kind, timeout=5)).object["kind"] == kind.name
    cluster.delete(kind, name)
    until(
        lambda: [each["metadata"]["name"] for each in cluster.list(kind)],
        lambda names: name not in names,
    )


def test_an_applied_object_has_identity_age_and_version(cluster: Cluster) -> None:
    applied = cluster.apply(model())
    metadata = applied["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["generation"] == 1
    assert (
        abs(
            (
                datetime.now(UTC) - datetime.fromisoformat(metadata["creationTimestamp"])
            ).total_seconds()
        )
        < 120
    )
    assert cluster.get(MODEL, "heart")["metadata"]["uid"] == metadata["uid"]


def test_applying_the_same_again_changes_nothing(cluster: Cluster) -> None:
    first = cluster.apply(model())
    assert (
        cluster.apply(model())["metadata"]["resourceVersion"]
        == first["metadata"]["resourceVersion"]
    )


def test_only_a_change_of_the_spec_is_a_new_generation(cluster: Cluster) -> None:
    first = cluster.apply(model())
    relabelled = model()
    relabelled["metadata"]["labels"]["team"] = "b"
    second = cluster.apply(relabelled)
    assert second["metadata"]["generation"] == 1
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert cluster.apply(model(alias="blue"))["metadata"]["generation"] == 2


def test_an_object_is_created_once_and_replaced_as_it_was_read(cluster: Cluster) -> None:
    created = cluster.create({**model(training={"template": "t"}), "status": {"traffic": []}})
    assert created["metadata"]["generation"] == 1
    with pytest.raises(Conflict):
        cluster.create(model())
    cluster.update_status(MODEL, "heart", {"observedGeneration": 1})
    with pytest.raises(Conflict):
        cluster.replace({**model(alias="blue"), "metadata": created["metadata"]})
    read = cluster.get(MODEL, "heart")
    replaced = cluster.replace({**model(alias="blue"), "metadata": read["metadata"]})
    assert (replaced["spec"]["alias"], "training" in replaced["spec"]) == ("blue", False)
    assert (replaced["metadata"]["generation"], replaced["status"]["observedGeneration"]) == (2, 1)
    with pytest.raises(Invalid, match="aliass"):
        cluster.replace({**model(aliass="blue"), "metadata": replaced["metadata"]})
    with pytest.raises(Conflict):
        cluster.delete(MODEL, "heart", version=read["metadata"]["resourceVersion"])
    cluster.delete(MODEL, "heart", version=replaced["metadata"]["resourceVersion"])
    until(lambda: cluster.list(MODEL), lambda found: found == [])
    with pytest.raises(NotFound):
        cluster.replace(replaced)


def test_a_field_that_is_no_longer_applied_is_removed(cluster: Cluster) -> None:
    cluster.apply(model(training={"template": "train-heart"}))
    assert "training" not in cluster.apply(model())["spec"]


def test_status_is_written_separately(cluster: Cluster) -> None:
    created = cluster.apply({**model(), "status": {"observedGeneration": 9}})
    assert created.get("status", {}).get("observedGeneration", 0) == 0
    written = cluster.update_status(
        MODEL, "heart", {"observedGeneration": 1, "conditions": [], "traffic": []}
    )
    assert written["metadata"]["generation"] == 1
    applied = cluster.apply({**model(alias="blue"), "status": {"observedGeneration": 9}})
    assert applied["status"]["observedGeneration"] == 1


def test_a_status_replaces_the_whole_former_one(cluster: Cluster) -> None:
    cluster.apply(model())
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    cluster.update_status(
        MODEL, "heart", {"observedGeneration": 1, "conditions": [condition], "traffic": []}
    )
    cluster.update_status(MODEL, "heart", {"observedGeneration": 1})
    assert not cluster.get(MODEL, "heart")["status"].get("conditions")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"scale": {"minReplicas": 0}}, "spec.scale.minReplicas"),
        ({"alias": 3}, "spec.alias"),
        ({"nonsense": 1}, "spec.nonsense"),
        ({"rollout": {"steps": [200]}}, "spec.rollout.steps[0]"),
    ],
)
def test_an_invalid_model_is_rejected_by_the_name_of_its_field(
    cluster: Cluster, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        cluster.apply(model(**spec))
    assert field in str(refusal.value)


def test_an_object_that_was_changed_since_it_was_read_is_not_overwritten(cluster: Cluster) -> None:
    read = cluster.apply(model())
    cluster.apply(model(alias="blue"))
    stale = model(alias="green")
    stale["metadata"]["resourceVersion"] = read["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        cluster.apply(stale)


def test_objects_are_found_by_label(cluster: Cluster) -> None:
    cluster.apply(model("heart"))
    other = model("digits")
    other["metadata"]["labels"] = {"team": "b"}
    cluster.apply(other)
    assert [each["metadata"]["name"] for each in cluster.list(MODEL)] == ["digits", "heart"]
    assert [each["metadata"]["name"] for each in cluster.list(MODEL, {"team": "b"})] == ["digits"]
    assert cluster.list(MODEL, {"team": "c"}) == []
    assert cluster.list(MODEL)[0]["kind"] == "Model"


def test_a_missing_object_is_not_found_and_may_be_deleted(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        cluster.get(MODEL, "missing")
    with pytest.raises(NotFound):
        cluster.update_status(MODEL, "missing", {})
    with pytest.raises(NotFound):
        cluster.create_job("missing")
    with pytest.raises(NotFound):
        cluster.suspend("missing", True)
    with pytest.raises(NotFound):
        cluster.logs(JOB, "missing")
    cluster.delete(MODEL, "missing")


def test_a_watch_yields_existing_objects_and_changes(cluster: Cluster) -> None:
    cluster.apply(model("heart"))
    events: list[WatchEvent] = []

    def watch() -> None:
        for event in cluster.watch(MODEL, timeout=SECONDS):
            events.append(event)
            names = {each.object["metadata"]["name"]: each for each in events}
            heart, digits = names.get("heart"), names.get("digits")
            if (
                digits
                and digits.object["spec"].get("alias") == "blue"
                and (heart is None or heart.type == "DELETED")
            ):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    cluster.apply(model("digits"))
    cluster.apply(model("digits", alias="blue"))
    cluster.delete(MODEL, "heart")
    thread.join()
    assert events[0].type == "ADDED"
    assert {event.object["metadata"]["name"] for event in events} <= {"heart", "digits"}
    last = {event.object["metadata"]["name"]: event for event in events}
    assert last["digits"].object["spec"]["alias"] == "blue"
    assert last.get("heart") is None or last["heart"].type == "DELETED"


def test_a_job_runs_to_its_end_and_its_log_is_stored(cluster: Cluster) -> None:
    cluster.apply(job("hello", "import sys; print('hello', *sys.argv[1:])", "world"))
    done = finished_job(cluster, "hello")
    assert condition(done, "Complete")
    status = done["status"]
    assert status["succeeded"] == 1
    assert status.get("failed", 0) == 0
    assert status.get("active", 0) == 0
    assert status["startTime"] <= status["completionTime"]
    assert list(cluster.logs(JOB, "hello")) == ["hello world"]


def test_the_log_of_a_running_job_can_be_followed(cluster: Cluster) -> None:
    cluster.apply(
        job("count", "import time\nfor i in range(5):\n print(i, flush=True)\n time.sleep(0.2)")
    )
    assert list(cluster.logs(JOB, "count", follow=True)) == ["0", "1", "2", "3", "4"]


def test_a_failing_job_is_retried_within_its_limit(cluster: Cluster) -> None:
    cluster.apply(job("fail", "raise SystemExit(4)", backoff_limit=1))
    failed = condition(finished_job(cluster, "fail"), "Failed")
    assert failed
    assert failed["reason"] == "BackoffLimitExceeded"
    assert cluster.get(JOB, "fail")["status"]["failed"] == 2


def test_a_job_is_not_retried_after_an_exit_code_of_its_failure_policy(cluster: Cluster) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}}
    cluster.apply(
        job("wrong", "raise SystemExit(2)", backoff_limit=3, podFailurePolicy={"rules": [rule]})
    )
    failed = condition(finished_job(cluster, "wrong"), "Failed")
    assert failed
    assert failed["reason"] == "PodFailurePolicy"
    assert "failed with exit code 2 matching FailJob rule at index 0" in failed["message"]
    assert cluster.get(JOB, "wrong")["status"]["failed"] == 1


def test_a_job_is_stopped_after_its_deadline(cluster: Cluster) -> None:
    cluster.apply(job("slow", "import time; time.sleep(600)", activeDeadlineSeconds=2))
    failed = condition(finished_job(cluster, "slow"), "Failed")
    assert failed
    assert failed["reason"] == "DeadlineExceeded"


def test_a_finished_job_is_deleted_after_its_ttl(cluster: Cluster) -> None:
    cluster.apply(job("brief", "pass", ttlSecondsAfterFinished=1))
    until(
        lambda: [each["metadata"]["name"] for each in cluster.list(JOB)],
        lambda names: "brief" not in names,
    )


def test_a_job_is_created_from_a_suspended_template_with_additional_arguments(
    cluster: Cluster,
) -> None:
    cluster.apply(
        cron_job("train", "import os, sys; print(sys.argv[1:], os.environ['SEED'])", "heart")
    )
    made = cluster.create_job(
        "train", name="train-now", args=["--set", "depth=3"], env={"SEED": "7"}
    )
    assert made["metadata"]["ownerReferences"][0]["name"] == "train"
    assert made["metadata"]["labels"]["app"] == "train"
    assert condition(finished_job(cluster, "train-now"), "Complete")
    assert list(cluster.logs(JOB, "train-now")) == ["['heart', '--set', 'depth=3'] 7"]
    assert list(cluster.logs(CRON_JOB, "train")) == ["['heart', '--set', 'depth=3'] 7"]
    with pytest.raises(Conflict):
        cluster.create_job("train", name="train-now")


def test_arguments_of_a_user_are_literal_and_reveal_no_secrets_of_the_job(cluster: Cluster) -> None:
    cluster.apply(
        cron_job("train", "import os, sys; print(sys.argv[2], os.environ['WHO'])", "heart")
    )
    marks = {
        "labels": {"slipway.dev/purpose": "training"},
        "annotations": {"slipway.dev/submitted-by": "ada"},
    }
    made = cluster.create_job(
        "train",
        name="train-now",
        args=["$(SEED) $$ $("],
        env={"SEED": "7", "WHO": "$(SEED)"},
        **marks,
    )
    assert made["metadata"]["labels"] == {"app": "train", "slipway.dev/purpose": "training"}
    assert made["metadata"]["annotations"]["slipway.dev/submitted-by"] == "ada"
    assert condition(finished_job(cluster, "train-now"), "Complete")
    assert list(cluster.logs(JOB, "train-now")) == ["$(SEED) $$ $( $(SEED)"]


def test_jobs_created_without_a_name_get_different_names(cluster: Cluster) -> None:
    cluster.apply(cron_job("train", "pass"))
    names = {cluster.create_job("train")["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("train-") for name in names)


def test_a_schedule_can_be_suspended_and_resumed(cluster: Cluster) -> None:
    cluster.apply(cron_job("train", "pass", suspend=False))
    assert cluster.suspend("train", True)["spec"]["suspend"] is True
    assert cluster.suspend("train", False)["spec"]["suspend"] is False


def test_a_field_is_removed_only_if_it_has_the_value(cluster: Cluster) -> None:
    cluster.apply(
        {
            **cron_job("train", "pass"),
            "spec": {**cron_job("train", "pass")["spec"], "startingDeadlineSeconds": 60},
        }
    )
    with pytest.raises(Conflict):
        cluster.remove_field(CRON_JOB, "train", "startingDeadlineSeconds", 61)
    changed = cluster.remove_field(CRON_JOB, "train", "startingDeadlineSeconds", 60)
    assert "startingDeadlineSeconds" not in changed["spec"]
    with pytest.raises(Conflict):
        cluster.remove_field(CRON_JOB, "train", "startingDeadlineSeconds", 60)
    with pytest.raises(NotFound):
        cluster.remove_field(CRON_JOB, "missing", "startingDeadlineSeconds", 60)


def test_an_invalid_schedule_is_rejected(cluster: Cluster) -> None:
    with pytest.raises(Invalid) as refusal:
        cluster.apply(cron_job("train", "pass", schedule="every day"))
    assert "spec.schedule" in str(refusal.value)


def test_dependants_are_deleted_with_their_owner(cluster: Cluster) -> None:
    cluster.apply(cron_job("train", "import time; time.sleep(600)"))
    cluster.create_job("train", name="train-now")
    until(
        lambda: cluster.get(JOB, "train-now").get("status", {}), lambda status: status.get("active")
    )
    cluster.delete(CRON_JOB, "train")
    until(lambda: cluster.list(JOB), lambda jobs: not jobs)


def test_a_template_of_a_job_cannot_be_changed(cluster: Cluster) -> None:
    cluster.apply(job("hello", "print('a')"))
    with pytest.raises(Invalid) as refusal:
        cluster.apply(job("hello", "print('b')"))
    assert "spec.template" in str(refusal.value)


def test_a_container_reads_its_environment_and_its_expansions(cluster: Cluster) -> None:
    manifest = job(
        "env",
        "import os, sys; print(os.environ['GREETING'], sys.argv[1], sys.argv[2])",
        "$(NAME)",
        "$$(NAME)",
    )
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [
        {"name": "NAME", "value": "you"},
        {"name": "GREETING", "value": "hello $(NAME)"},
    ]
    cluster.apply(manifest)
    finished_job(cluster, "env")
    assert list(cluster.logs(JOB, "env")) == ["hello you you $(NAME)"]


def test_of_two_concurrent_renewals_of_a_lease_only_one_succeeds(cluster: Cluster) -> None:
    version = cluster.apply(lease(holder="a"))["metadata"]["resourceVersion"]
    for holder in ("b", "c"):
        renewed = lease(holder=holder)
        renewed["metadata"]["resourceVersion"] = version
        if holder == "b":
            cluster.apply(renewed)
        else:
            with pytest.raises(Conflict):
                cluster.apply(renewed)
    assert cluster.get(LEASE, renewed["metadata"]["name"])["spec"]["holderIdentity"] == "b"


def test_the_pods_of_a_job_are_found_the_oldest_first(cluster: Cluster) -> None:
    cluster.apply(job("fail", "raise SystemExit(4)", backoff_limit=1))
    finished_job(cluster, "fail")
    pods = cluster.pods(JOB, "fail")
    assert len(pods) == 2
    assert pods[0]["metadata"]["creationTimestamp"] <= pods[1]["metadata"]["creationTimestamp"]
    assert pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert cluster.pods(JOB, "missing") == []


def test_events_of_an_object_are_found_and_repetitions_are_counted(cluster: Cluster) -> None:
    heart, digits = cluster.apply(model("heart")), cluster.apply(model("digits"))
    cluster.record(heart, reason="Serving", message="version 1 answers")
    for _ in range(3):
        cluster.record(heart, reason="ImagePullFailed", message="no such image", warning=True)
    cluster.record(digits, reason="Serving", message="x" * 5000)
    found = {each["reason"]: each for each in cluster.events(heart)}
    assert found.keys() == {"Serving", "ImagePullFailed"}
    assert (found["Serving"]["type"], found["Serving"]["count"]) == ("Normal", 1)
    assert (found["ImagePullFailed"]["type"], found["ImagePullFailed"]["count"]) == ("Warning", 3)
    assert found["Serving"]["involvedObject"]["uid"] == heart["metadata"]["uid"]
    assert [len(each["message"]) for each in cluster.events(digits)] == [1024]
    cluster.delete(MODEL, "heart")
    until(
        lambda: cluster.list(MODEL, {"team": "a"}),
        lambda models: "heart" not in [each["metadata"]["name"] for each in models],
    )
    assert list(cluster.events(cluster.apply(model("heart")))) == [], (
        "another object of the same name"
    )
