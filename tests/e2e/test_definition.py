"""The definition of ``Model`` in the API server and in kubectl explain."""

import json

from tests.e2e.conftest import kubectl

MODEL = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "misspelt"},
    "spec": {"registeredModel": "heart", "registredModel": "heart"},
}


def test_an_unknown_field_of_a_spec_is_rejected_by_name() -> None:
    done = kubectl(
        "apply", "--dry-run=server", "--filename", "-", stdin=json.dumps(MODEL), check=False
    )
    assert done.returncode != 0
    assert 'unknown field "spec.registredModel"' in done.stderr


def test_every_field_has_a_description() -> None:
    fields = kubectl("explain", "models.serving.slipway.dev", "--recursive").stdout
    assert "registeredModel" in fields
    for field in (
        "spec",
        "spec.scale",
        "spec.rollout",
        "spec.predictor",
        "spec.predictor.affinity",
        "spec.training",
        "spec.training.job",
        "spec.batching",
        "status.conditions",
        "status.traffic",
    ):
        assert (
            "<no description>"
            not in kubectl("explain", f"models.serving.slipway.dev.{field}").stdout
        )
