"""The simulator with a small server as the gateway: its requests and its pauses."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest
from slipway.errors import WrongParameter
from slipway.training.installed import declared_task
from slipway.training.split import Split
from slipway.training.task import Task, parse_parameters
from slipway_jobs.errors import CallRefused
from slipway_jobs.settings import Settings, SimulatorSettings
from slipway_jobs.simulation.simulation import Plan, Shift, shifted, simulate
from slipway_jobs.training.training import load_parts

from tests.support.http_server import Response, http_server

ISSUER = "http://login.example:8000"
SECRET = "a secret of sixteen signs or more"
Override = Callable[["Gateway", str, dict[str, Any]], Response | None]


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Return settings without MLflow, which the simulator does not use."""
    return Settings(MLFLOW_TRACKING_URI="http://127.0.0.1:1", fetch=False)


class Gateway:
    """A gateway with its issuer at one address; ``override`` may return another response."""

    def __init__(self, override: Override, rows: int) -> None:
        self._override = override
        self._rows = rows
        self.enough = Event()
        """Set after so many rows."""
        self.instances: list[dict[str, Any]] = []
        self.labels: dict[str, Any] = {}
        self.tokens = 0

    def respond(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        if path == "/.well-known/openid-configuration":
            assert headers["Host"] == "login.example:8000"
            return 200, json.dumps({"token_endpoint": f"{ISSUER}/oauth/token"}).encode()
        if path == "/oauth/token":
            assert (headers["Authorization"][:6], body) == (
                "Basic ",
                b"grant_type=client_credentials",
            )
            self.tokens += 1
            return 200, json.dumps(
                {"access_token": f"token-{self.tokens}", "expires_in": 3600}
            ).encode()
        assert method == "POST"
        return self._override(self, path, headers) or self._serve(path, json.loads(body))

    def _serve(self, path: str, content: dict[str, Any]) -> Response:
        if path.endswith("/predictions"):
            self.instances += content["instances"]
            if len(self.instances) == self._rows:
                self.enough.set()
            body = {
                "requestId": f"r{len(self.instances)}",
                "predictions": [{"label": 1, "probability": 0.9}],
            }
            return 200, json.dumps(body).encode()
        request_id = path.split("/")[3]
        self.labels[request_id] = content["label"]
        return 201, b"{}"


@contextmanager
def gateway(
    settings: Settings, override: Override = lambda *_: None, rows: int = 1
) -> Iterator[tuple[Gateway, SimulatorSettings]]:
    server = Gateway(override, rows)
    with http_server(server.respond) as url:
        values = {
            "url": url,
            "oidc_issuer": ISSUER,
            "oidc_discovery_url": url,
            "client_secret": SECRET,
        }
        yield (
            server,
            SimulatorSettings.model_validate({**values, "data": settings.data, "fetch": False}),
        )


def parts(task: Task, settings: Settings) -> Split:
    return load_parts(task, parse_parameters(task, {"dataset": "heart-synthetic"}), settings)[1]


PLAN = Plan(rate=6000, dataset="heart-synthetic", label_after=0.05)
"""A row every 10 ms, until the gateway has enough."""


def test_held_out_rows_are_predicted_and_labelled_with_the_truth(settings: Settings) -> None:
    task = declared_task("heart")
    test = parts(task, settings).test
    with gateway(settings, rows=3) as (server, own):
        result = simulate(task, PLAN, own, server.enough)
    count = result["predicted"]
    assert count == len(server.instances) == 3
    assert server.instances == [
        task.instance(test.features[number : number + 1]) for number in range(count)
    ]
    assert server.labels == {f"r{number + 1}": test.labels[number] for number in range(count)}
    correct = int((test.labels[:count] == 1).sum())
    expected = {
        "predicted": count,
        "labelled": count,
        "correct": correct,
        "refused": 0,
        "waited": 0,
    }
    assert result == {
        "state": "simulated",
        "model": "heart",
        "dataset": "heart-synthetic",
        "synthetic": True,
        **expected,
    }
    assert server.tokens == 1


def test_it_retries_after_the_delay_of_the_gateway_without_losing_a_row(settings: Settings) -> None:
    moments: list[float] = []

    def busy(_: Gateway, path: str, __: dict[str, Any]) -> Response | None:
        if path.endswith("/predictions"):
            moments.append(time.monotonic())
        return (429, b"{}", {"Retry-After": "1"}) if len(moments) == 1 else None

    with gateway(settings, busy, rows=2) as (server, own):
        result = simulate(declared_task("heart"), PLAN, own, server.enough)
    assert result["waited"] == 1
    assert server.instances[0] == declared_task("heart").instance(
        parts(declared_task("heart"), settings).test.features[:1]
    )
    assert moments[1] - moments[0] >= 0.99


def test_a_rejected_token_is_renewed(settings: Settings) -> None:
    def refuse_first(_: Gateway, __: str, headers: dict[str, Any]) -> Response | None:
        return (401, b"{}") if headers["Authorization"] == "Bearer token-1" else None

    with gateway(settings, refuse_first, rows=2) as (server, own):
        assert simulate(declared_task("heart"), PLAN, own, server.enough)["labelled"] == 2
    assert server.tokens == 2


def test_a_rejected_row_is_counted_and_the_others_continue(settings: Settings) -> None:
    def refuse_one(server: Gateway, path: str, _: dict[str, Any]) -> Response | None:
        if path.endswith("/predictions") and not server.instances and not server.labels:
            server.labels["seen"] = None
            return 422, b"age: is too much"
        return None

    with gateway(settings, refuse_one, rows=2) as (server, own):
        result = simulate(declared_task("heart"), PLAN, own, server.enough)
    assert (result["refused"], result["predicted"]) == (1, 2)


def test_it_ends_after_its_duration(settings: Settings) -> None:
    with gateway(settings) as (server, own):
        result = simulate(declared_task("heart"), replace(PLAN, rate=1, seconds=5), own, Event())
    assert result["predicted"] == len(server.instances) == 1


def test_a_caller_without_a_grant_fails_immediately(settings: Settings) -> None:
    with (
        gateway(settings, lambda *_: (403, b"heart is not granted")) as (_, own),
        pytest.raises(CallRefused, match=r"returned 403 for .*: heart is not granted"),
    ):
        simulate(declared_task("heart"), PLAN, own, Event())


def test_it_stops_also_during_a_pause(settings: Settings) -> None:
    stop = Event()

    def unavailable(*_: object) -> Response:
        stop.set()
        return 503, b"{}"

    with gateway(settings, unavailable) as (_, own):
        result = simulate(declared_task("heart"), Plan(60), own, stop)
    assert (result["predicted"], result["waited"]) == (0, 1)


def test_a_shift_adds_to_one_input_within_its_bounds(settings: Settings) -> None:
    task = declared_task("heart")
    test = parts(task, settings).test
    names = [column.name for column in task.signature.inputs]
    age = names.index("age")
    found = shifted(task, test, [Shift.parse("age=+9sd")])
    most = task.signature.inputs[age].maximum
    assert most
    expected = np.minimum(test.features[:, age] + 9 * np.nanstd(test.features[:, age]), most)
    assert found[:, age] == pytest.approx(expected)
    assert (expected == most).any()
    others = [position for position in range(len(names)) if position != age]
    assert np.array_equal(found[:, others], test.features[:, others], equal_nan=True)
    assert shifted(task, test, [Shift.parse("chol=-5.5")])[:, names.index("chol")] == pytest.approx(
        test.features[:, names.index("chol")] - 5.5, nan_ok=True
    )


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("age", "--shift 'age': has no COLUMN=+NUMBER form"),
        ("age=2", "has no"),
        ("weight=+1", "--shift weight: is not a numeric input"),
    ],
)
def test_an_invalid_shift_is_refused_by_name(settings: Settings, text: str, content: str) -> None:
    task = declared_task("heart")
    with pytest.raises(WrongParameter) as refusal:
        shifted(task, parts(task, settings).test, [Shift.parse(text)])
    assert content in str(refusal.value)
