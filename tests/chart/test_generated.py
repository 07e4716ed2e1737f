"""Generated files are up to date, and values are validated."""

import json
import subprocess
import sys

import pytest
import yaml
from slipway.training.installed import declared_task, task_names
from slipway.training.task import parameters_schema
from slipway_contract.crd import crd

from tests.chart.chart import CHART, CHARTS, PARAMETERS, Refused, Rendering, render


def test_the_definition_of_model_is_the_one_of_the_contract(default: Rendering) -> None:
    assert yaml.safe_load((CHART / "files" / "models.crd.yaml").read_text()) == crd()
    rendered = default.of("CustomResourceDefinition")["models.serving.slipway.dev"]
    assert rendered["spec"] == crd()["spec"]
    assert rendered["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_parameters_of_the_examples_are_those_of_their_tasks() -> None:
    expected = {name: parameters_schema(declared_task(name)) for name in task_names()}
    written = json.loads(PARAMETERS.read_text())
    assert written == {"training": {"parameters": expected}}, "run `make chart-docs local-objects`"


def test_schema_and_readme_follow_the_values() -> None:
    done = subprocess.run(
        [sys.executable, CHARTS / "values.py", "--check", CHART],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gateway.replica=3", "'replica' not allowed"),
        ("postgress.enabled=true", "'postgress' not allowed"),
        ("image.tag=latest", "at '/image/tag'"),
        ("gateway.service.type=Cluster", "at '/gateway/service/type'"),
        ("gateway.replicas=two", "at '/gateway/replicas'"),
        ("identity.url=http://login.example.com", "at '/identity/url'"),
        ("redis.url=redis://:secret@cache:6379", "at '/redis/url'"),
        ("databases.slipway.url=postgresql://me:secret@db/slipway", "at '/databases/slipway/url'"),
    ],
)
def test_an_unknown_or_invalid_value_is_rejected_by_name(setting: str, named: str) -> None:
    with pytest.raises(Refused, match=named):
        render(None, setting)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("postgresql.enabled=false", "set databases.* postgresql.enabled is false"),
        ("identity.enabled=false", "set gateway.oidc.issuer"),
        ("mlflow.enabled=false", "mlflow.enabled is false"),
        ("backup.enabled=true", "set backup.claim"),
        ("monitor.enabled=true", "monitor.models: is empty"),
        ("simulator.replicas=1", "simulator.model: is empty"),
        ("gateway.ingress.enabled=true", "set gateway.ingress.host"),
        ("gateway.httpRoute.enabled=true", "set gateway.httpRoute.parentRefs"),
    ],
)
def test_a_disabled_part_needs_a_replacement_and_the_message_names_the_value(
    setting: str, named: str
) -> None:
    with pytest.raises(Refused, match=named.replace("*", ".*")):
        render(None, setting)
