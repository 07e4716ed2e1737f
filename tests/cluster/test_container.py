"""A container as a local process."""

import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_cluster import Manifest
from slipway_local.standin.apply import merge
from slipway_local.standin.container import (
    Image,
    PodFolder,
    expanded,
    free_ports,
    launch,
    with_mounts,
    with_ports,
)
from slipway_local.standin.job import Backoff
from slipway_local.standin.pod_log import PodLog
from slipway_local.standin.workload import PodSpec

from tests.cluster.manifests import container

MODELS = {"/mnt/models": Path("/state/pods/1/models"), "/mnt": Path("/state/other")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/models", "/state/pods/1/models"),
        ("--path=/mnt/models/3", "--path=/state/pods/1/models/3"),
        ("file:///mnt/models", "file:///state/pods/1/models"),
        ("/mnt/models,/mnt/x", "/state/pods/1/models,/state/other/x"),
        ("/mnt/models-old", "/state/other/models-old"),
        ("/data/mnt/models", "/data/mnt/models"),
        ("mlflow://heart/3", "mlflow://heart/3"),
    ],
)
def test_a_mount_path_is_replaced_where_it_is_a_path(text: str, expected: str) -> None:
    assert with_mounts(text, MODELS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", "21000"),
        ("http://127.0.0.1:8080/v2", "http://127.0.0.1:21000/v2"),
        ("--port=8080", "--port=21000"),
        ("18080", "18080"),
        ("sha256:8080ab", "sha256:8080ab"),
        ("0.8080", "0.8080"),
        ("9000", "9000"),
    ],
)
def test_a_container_port_is_replaced_where_it_is_a_number(text: str, expected: str) -> None:
    assert with_ports(text, {8080: 21000}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A)", "$(A)"),
        ("$$5 $$$$(A) $$$(A)", "$5 $$(A) $1"),
        ("$A ${A} $(A", "$A ${A} $(A"),
        ("$(A)$(A)", "11"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expected: str) -> None:
    assert expanded(text, {"A": "1"}) == expected


def of_key(variable: str, source: str, name: str, key: str, **more: bool) -> Manifest:
    return {"name": variable, "valueFrom": {source: {"name": name, "key": key, **more}}}


def test_a_process_gets_the_images_path_its_own_folders_and_little_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_LAUNCHER", "x")
    spec = PodSpec.model_validate(
        {
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "data", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "options"}},
                {"name": "keys", "secret": {"secretName": "credentials"}},
                {"name": "host", "hostPath": {"path": str(tmp_path / "spool")}},
            ],
            "containers": [
                {
                    **container("pass"),
                    "command": [],
                    "args": ["/data/in", "/tmp/x"],
                    "env": [
                        {"name": "A", "value": "own"},
                        {
                            "name": "OF",
                            "valueFrom": {
                                "fieldRef": {"fieldPath": "metadata.labels['example.com/a']"}
                            },
                        },
                        {
                            "name": "MY_NAME",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                        },
                        of_key("PASSWORD", "secretKeyRef", "credentials", "password"),
                        of_key("LEVEL", "configMapKeyRef", "options", "level"),
                        of_key("NONE", "configMapKeyRef", "options", "none", optional=True),
                        {"name": "CONFIG", "value": "/etc/app/a.toml"},
                        {"name": "SPOOL", "value": "/spool/x"},
                    ],
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "data", "mountPath": "/data"},
                        {"name": "config", "mountPath": "/etc/app"},
                        {"name": "keys", "mountPath": "/keys"},
                        {"name": "host", "mountPath": "/spool"},
                    ],
                }
            ],
        }
    )
    folder = PodFolder(tmp_path, spec)
    image = Image(Path("/opt/bin"), env={"A": "image", "B": "image"}, entrypoint=("run",))
    pod = {"metadata": {"name": "train-x", "uid": "uid-1", "labels": {"example.com/a": "$(A)"}}}
    data = {"credentials": {"password": "$(A)"}, "options": {"level": "3", "a.toml": "b = 1"}}
    folder.make()
    folder.fill(lambda _, name: data[name])
    prepared = launch(spec.main, image, folder, {}, pod, lambda _, name: data[name])
    assert prepared.argv == ["run", str(tmp_path / "volumes" / "data" / "in"), "/tmp/x"]
    assert prepared.env["PATH"].startswith("/opt/bin:")
    assert (prepared.env["A"], prepared.env["B"]) == ("own", "image")
    assert (prepared.env["OF"], prepared.env["MY_NAME"]) == ("$(A)", "train-x")
    assert (prepared.env["PASSWORD"], prepared.env["LEVEL"]) == ("$(A)", "3")
    assert "NONE" not in prepared.env
    assert Path(prepared.env["CONFIG"]).read_text() == "b = 1"
    key = tmp_path / "volumes" / "keys" / "password"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("$(A)", 0o600)
    assert prepared.env["SPOOL"] == str(tmp_path / "spool" / "x")
    assert prepared.env["TMPDIR"] == str(tmp_path / "tmp")
    assert prepared.env["SLIPWAY_POD"] == "uid-1"
    assert "SECRET_OF_THE_LAUNCHER" not in prepared.env
    assert prepared.cwd == tmp_path


def test_free_ports_are_free_and_differ() -> None:
    ports = free_ports([8080, 9000, 8082], taken=set())
    assert len(set(ports.values())) == 3
    for port in ports.values():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_ports_in_use_are_not_allocated_again() -> None:
    (port,) = set(range(20000, 32768)) - (
        taken := set(range(20000, 32768)) - {free_ports([1], set())[1]}
    )
    assert free_ports([1], taken) == {1: port}


def test_the_back_off_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first=10, longest=300)
    assert [backoff.delay(failures) for failures in (1, 2, 3, 4, 7, 8, 1000)] == [
        0,
        10,
        20,
        40,
        300,
        300,
        300,
    ]


_JSON = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.sampled_from("abc"), _JSON, max_size=3)


@given(_OBJECTS, _OBJECTS)
def test_fields_of_one_manager_become_exactly_what_it_applies(
    before: dict[str, object], now: dict[str, object]
) -> None:
    live = merge({}, before, {})
    assert live == before
    assert _pruned(merge(before, now, live)) == _pruned(now)


@given(_OBJECTS, _OBJECTS)
def test_fields_of_other_managers_stay(before: dict[str, object], now: dict[str, object]) -> None:
    live = merge(before, now, {**before, "other": {"x": 1}})
    assert live["other"] == {"x": 1}


def _pruned(value: object) -> object:
    """Return the value without empty objects, whose removal is not specified."""
    if not isinstance(value, dict):
        return value
    pruned = {key: _pruned(each) for key, each in value.items()}
    return {key: each for key, each in pruned.items() if each != {}}


def test_a_log_stays_within_its_limit_while_it_is_followed(tmp_path: Path) -> None:
    log = PodLog(tmp_path / "main.log")
    writing = log.path.open("ab", buffering=0)
    with writing:
        writing.write(b"one\ntwo\n")
        lines = log.follow(lambda: False)
        assert [next(lines), next(lines)] == ["one", "two"]
        writing.write(b"three\n")
        log.keep_below(10)
        writing.write(b"four\n")
        assert [next(lines), next(lines)] == ["three", "four"]
        assert log.path.read_text() == "four\n"
        assert list(log.lines()) == ["one", "two", "three", "four"]
