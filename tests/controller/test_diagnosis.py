"""Diagnosis of predictors from pods as a kubelet reports them."""

import pytest
from slipway_cluster import Manifest
from slipway_controller.diagnosis import diagnosis_of, stage_of

from tests.controller.pods import NOW, container, pod, running, terminated, waiting

BACK_OFF = waiting("CrashLoopBackOff", "back-off 40s restarting failed container")
INITIALIZER = "storage-initializer"


def reason_and_message(*pods: Manifest) -> tuple[str, str] | None:
    found = diagnosis_of(pods, NOW)
    return (found.reason, found.message) if found else None


@pytest.mark.parametrize(
    ("seen", "reason", "part"),
    [
        (
            pod(container(waiting("ImagePullBackOff", "not found"))),
            "ImagePullFailed",
            "no image slipway/serving:dev: not found",
        ),
        (
            pod(init=(container(waiting("ErrImagePull"), name=INITIALIZER),)),
            "ImagePullFailed",
            "storage-initializer",
        ),
        (
            pod(container(waiting("CreateContainerConfigError", 'secret "x" not found'))),
            "ContainerNotCreated",
            'secret "x"',
        ),
        (
            pod(container(BACK_OFF, terminated(1, "a\nno model"), 2)),
            "CrashLoop",
            "exit status 1 (2 restarts); its last log line: no model",
        ),
        (
            pod(container(BACK_OFF, terminated(137, reason="OOMKilled"), 2)),
            "CrashLoop",
            "ran out of memory",
        ),
        (
            pod(container(BACK_OFF, terminated(0, reason="Completed"), 1)),
            "CrashLoop",
            "exit status 0",
        ),
        (pod(container(running(), terminated(1), 1)), "CrashLoop", "exit status 1"),
        (
            pod(init=(container(BACK_OFF, terminated(3, "model.onnx: digest mismatch"), 1),)),
            "DigestMismatch",
            "model.onnx",
        ),
        (
            pod(init=(container(BACK_OFF, terminated(3, "MLflow does not answer"), 1),)),
            "ModelLoadFailed",
            "MLflow",
        ),
        (
            pod(
                init=(
                    container(
                        BACK_OFF,
                        terminated(3, "manifest.sig: is missing; heart version 3 is not signed"),
                        1,
                    ),
                )
            ),
            "SignatureMissing",
            "not signed",
        ),
        (
            pod(init=(container(BACK_OFF, terminated(3, "manifest.sig: signed by the key"), 1),)),
            "SignatureInvalid",
            "the key",
        ),
        (
            pod(init=(container(BACK_OFF, terminated(3, "status 500 for manifest.sig"), 1),)),
            "ModelLoadFailed",
            "500",
        ),
    ],
)
def test_each_cause_has_a_reason_and_a_message(seen: Manifest, reason: str, part: str) -> None:
    found = reason_and_message(seen)
    assert found
    assert found[0] == reason
    assert part in found[1]


def test_an_unschedulable_pod_has_the_message_of_the_scheduler() -> None:
    no_room = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes: Insufficient cpu.",
    }
    assert reason_and_message(pod(conditions=(no_room,))) == (
        "Unschedulable",
        "0/1 nodes: Insufficient cpu.",
    )


@pytest.mark.parametrize(
    "seen",
    [
        pod(),
        pod(container(waiting("PodInitializing")), init=(container(running(), name=INITIALIZER),)),
        pod(
            container(running()),
            init=(container(terminated(0, reason="Completed"), name=INITIALIZER),),
        ),
        pod(container(running("2025-12-01T00:00:00Z"), terminated(1), 5)),
    ],
    ids=["scheduled just now", "fetching", "starting", "restarted long ago"],
)
def test_a_pod_that_is_starting_has_no_diagnosis(seen: Manifest) -> None:
    assert reason_and_message(seen) is None


def test_a_crash_is_lasting_only_after_several_restarts() -> None:
    once, often = (
        diagnosis_of([pod(container(BACK_OFF, terminated(1), restarts))], NOW)
        for restarts in (1, 3)
    )
    assert once
    assert not once.lasting
    assert often
    assert often.lasting


def test_a_container_without_termination_message_is_named_so_that_its_log_can_be_read() -> None:
    found = diagnosis_of([pod(container(BACK_OFF, terminated(1), 1))], NOW)
    assert found
    assert found.silent == "kserve-container"


def test_the_newest_failed_pod_that_is_not_being_deleted_gives_the_diagnosis() -> None:
    old, new = (
        pod(container(BACK_OFF, terminated(1, "old"), 9)),
        pod(container(waiting("ErrImagePull"))),
    )
    deleted = pod(container(waiting("CreateContainerError")))
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    found = reason_and_message(old, new, deleted)
    assert found
    assert found[0] == "ImagePullFailed"


def test_the_stage_is_that_of_the_newest_pod() -> None:
    fetching = pod(
        container(waiting("PodInitializing")), init=(container(running(), name=INITIALIZER),)
    )
    assert stage_of([]) == "it has no pod yet"
    assert stage_of([pod()]) == "its pod is pending"
    assert stage_of([pod(), fetching]) == "storage-initializer is running"
    assert (
        stage_of([pod(container(waiting("ContainerCreating")))])
        == "kserve-container waits: ContainerCreating"
    )
