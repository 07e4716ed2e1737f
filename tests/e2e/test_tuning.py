"""A sweep as an Indexed Job (docs/how-to/tuning.md), also when a worker is killed."""

import json

from tests.e2e.conftest import KindStack, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for


def test_a_sweep_with_a_killed_worker_has_each_trial_once(stack: KindStack) -> None:
    wanted = ["--trials", "10", "--set", "estimator=logistic"]
    job = stack.cluster.create_job("tune-heart", args=wanted)["metadata"]["name"]
    pod = wait_for("a worker at its trials", lambda: next(iter(at_work(job)), None), START_SECONDS)
    kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    found = stack.result(job)
    # The worker in place of the killed one may start after the other one has trained.
    states = [json.loads(log(pod).splitlines()[-1])["state"] for pod in pods(job, "Succeeded")]
    assert states.count("tuned") == 1, states
    assert sum(found["trials"].values()) == 10
    assert not found["failed"]
    (described,) = [each for each in objects("jobs") if each["metadata"]["name"] == job]
    assert described["spec"]["completionMode"] == "Indexed"
    assert described["status"]["succeeded"] == 2


def at_work(job: str) -> list[str]:
    """Return the pods of the Job that have finished a trial and are still running."""
    running = pods(job, "Running")
    return [pod for pod in running if "slipway_jobs.tuning.tuning: trial " in log(pod)]


def pods(job: str, phase: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in objects("pods", f"job-name={job}")
        if pod["status"]["phase"] == phase
    ]


def log(pod: str) -> str:
    return kubectl("logs", pod, check=False).stdout
