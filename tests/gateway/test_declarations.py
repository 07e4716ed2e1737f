"""Models declared over HTTP: created, replaced, changed and deleted as by kubectl."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slipway_cluster.interface import MODEL, Conflict, NotFound
from slipway_contract.model import API_VERSION, Model, admitted
from slipway_gateway.access.trusted_fields import TRUSTED_FIELDS, check_trusted
from slipway_gateway.control.declarations import merged

from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import Issuer
from tests.support.waiting import until

JOB = {"job": {"image": "registry.example.org/churn:7", "schedule": "0 4 * * 1"}}


def manifest(name: str = "churn", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {"registeredModel": name, **spec},
    }


@pytest.fixture(scope="module")
def declared(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture(scope="module")
def client(declared: Environment) -> Iterator[Client]:
    with declared.gateway() as client:
        yield client


@pytest.fixture(scope="module")
def trusting(declared: Environment) -> Iterator[Client]:
    """Provide a gateway whose callers may set all fields."""
    with declared.gateway(trusted_model_fields=TRUSTED_FIELDS) as client:
        yield client


class Author:
    """A caller that writes Models."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token = client, token

    def send(self, method: str, path: str, content: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.http.request(
            method,
            f"/v1/models{path}",
            json=content,
            headers={"authorization": f"Bearer {self.token}", **named},
        )

    def audit(self) -> list[tuple[str, str, Any]]:
        """Return action, thing and detail of all entries, the oldest first."""
        found = self.client.get("/v1/audit?limit=1000", "root").json()["entries"]
        return [(each["action"], each["thing"], each["detail"]) for each in reversed(found)]


@pytest.fixture
def marie(client: Client, issuer: Issuer) -> Author:
    return Author(client, issuer.token("marie", "scientist"))


def stored(environment: Environment, name: str) -> dict[str, Any]:
    return environment.cluster.get(MODEL, name)


def test_a_model_is_created_replaced_changed_and_deleted(
    declared: Environment, marie: Author
) -> None:
    before = len(marie.audit())
    created = marie.send("POST", "", manifest("cycle", owner="team-a"))
    assert created.status_code == 201, created.text
    assert created.headers["location"] == "/v1/models/cycle"
    assert stored(declared, "cycle")["spec"] == {"registeredModel": "cycle", "owner": "team-a"}
    again = marie.send("POST", "", manifest("cycle"))
    assert again.status_code == 409
    assert again.json()["detail"] == (
        "model cycle exists already; replace it by PUT /v1/models/cycle"
    )

    replaced = marie.send("PUT", "/cycle", manifest("cycle", alias="blue"))
    assert replaced.status_code == 200
    assert replaced.json()["spec"] == {"registeredModel": "cycle", "alias": "blue"}
    assert replaced.json()["metadata"]["generation"] == 2

    changed = marie.send("PATCH", "/cycle", {"spec": {"alias": None, "scale": {"maxReplicas": 3}}})
    assert changed.status_code == 200
    assert changed.json()["spec"] == {"registeredModel": "cycle", "scale": {"maxReplicas": 3}}
    found = marie.send("GET", "/cycle/declaration")
    assert found.json() == changed.json()
    assert found.headers["etag"] == changed.headers["etag"]

    assert marie.send("DELETE", "/cycle").status_code == 204
    with pytest.raises(NotFound):
        stored(declared, "cycle")
    for method, content in (("GET", None), ("DELETE", None), ("PATCH", {})):
        path = "/cycle/declaration" if method == "GET" else "/cycle"
        assert marie.send(method, path, content).status_code == 404

    spec = found.json()["spec"]
    assert marie.audit()[before:] == [
        ("model.create", "models/cycle", {"registeredModel": "cycle", "owner": "team-a"}),
        ("model.replace", "models/cycle", {"registeredModel": "cycle", "alias": "blue"}),
        ("model.replace", "models/cycle", spec),
        ("model.delete", "models/cycle", spec),
    ]


def test_a_repeated_put_changes_nothing_and_is_in_the_audit_once(marie: Author) -> None:
    before, body = len(marie.audit()), manifest("steady", scale={"maxReplicas": 2})
    first = marie.send("PUT", "/steady", body)
    assert first.status_code == 201
    assert first.headers["location"] == "/v1/models/steady"
    body["spec"]["scale"]["minReplicas"] = 1  # the default
    second = marie.send("PUT", "/steady", body)
    assert (second.status_code, second.headers["etag"]) == (200, first.headers["etag"])
    assert [each[0] for each in marie.audit()[before:]] == ["model.create"]


def test_a_change_applies_only_to_the_state_that_the_caller_has_read(
    declared: Environment, marie: Author
) -> None:
    tag = marie.send("PUT", "/guarded", manifest("guarded")).headers["etag"]
    change = {"spec": {"owner": "team-b"}}
    changed = marie.send("PATCH", "/guarded", change, if_match=f'"0", {tag}')
    assert changed.status_code == 200
    for method, content in (
        ("PUT", manifest("guarded")),
        ("PATCH", {"spec": {"owner": "team-c"}}),
        ("DELETE", None),
    ):
        late = marie.send(method, "/guarded", content, if_match=tag)
        assert late.status_code == 412
        assert f"its ETag is {changed.headers['etag']}" in late.json()["detail"]
    assert stored(declared, "guarded")["spec"]["owner"] == "team-b"
    new = marie.send("PUT", "/unborn", manifest("unborn"), if_match="*")
    assert (new.status_code, "does not exist" in new.text) == (412, True)
    only_new = marie.send("PUT", "/guarded", manifest("guarded"), if_none_match="*")
    assert only_new.status_code == 412
    assert marie.send("DELETE", "/guarded", if_match="*").status_code == 204


def test_a_change_survives_writes_of_the_controller(
    declared: Environment, marie: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write the status between reading and writing, as the controller does."""
    marie.send("PUT", "/busy", manifest("busy"))
    replace, cluster, writes = declared.cluster.replace, declared.cluster, iter(range(100))

    def late(given: dict[str, Any]) -> dict[str, Any]:
        if (number := next(writes)) < 3:
            cluster.update_status(MODEL, "busy", {"observedGeneration": number})
        return replace(given)

    monkeypatch.setattr(cluster, "replace", late)
    changed = marie.send("PATCH", "/busy", {"spec": {"owner": "team-b"}})
    assert changed.status_code == 200
    assert changed.json()["status"]["observedGeneration"] == 2
    assert [each[:2] for each in marie.audit()[-2:]] == [
        ("model.create", "models/busy"),
        ("model.replace", "models/busy"),
    ]

    def always(given: dict[str, Any]) -> dict[str, Any]:
        raise Conflict(f"{given['metadata']['name']} was changed")

    monkeypatch.setattr(cluster, "replace", always)
    lost = marie.send("PATCH", "/busy", {"spec": {"owner": "team-c"}})
    assert (lost.status_code, "changed by others" in lost.text) == (409, True)


def test_labels_are_replaced_and_those_of_tools_are_kept(
    declared: Environment, marie: Author
) -> None:
    body = manifest("labelled")
    reserved = {"app.kubernetes.io/managed-by": "Helm", "slipway.dev/x": "1"}
    body["metadata"] |= {"labels": reserved | {"team": "a"}, "finalizers": ["example.org/x"]}
    declared.cluster.apply(body)
    again = manifest("labelled")
    again["metadata"]["labels"] = {"tier": "gold", "app.kubernetes.io/managed-by": "me"}
    assert marie.send("PUT", "/labelled", again).status_code == 200
    metadata = stored(declared, "labelled")["metadata"]
    assert metadata["labels"] == reserved | {"tier": "gold"}
    assert metadata["finalizers"] == ["example.org/x"]
    marie.send("PATCH", "/labelled", {"metadata": {"labels": {"tier": None}}})
    assert stored(declared, "labelled")["metadata"]["labels"] == reserved


@pytest.mark.parametrize(
    ("content", "field", "problem"),
    [
        ({"metadata": {"name": "churn"}}, "spec", "Field required"),
        (manifest("churn", alias=""), "spec.alias", "at least 1 character"),
        (manifest("churn", aliass="x"), "spec.aliass", "is not a field of this body; omit it"),
        (manifest("churn", scale={"minReplicas": 3}), "spec.scale", "is above maxReplicas 1"),
        (
            manifest("churn", retention={"facts": "20d"}),
            "spec.retention.facts",
            "'20d' is not a number of days from 30d to 9999d; write it as 400d",
        ),
        (
            manifest("churn", retention={"bodies": "90d", "facts": "60d"}),
            "spec.retention",
            "facts 60d is below bodies 90d",
        ),
        (manifest("other"), "metadata.name", "is not the model of the path; send churn"),
        ({**manifest(), "kind": "Pod"}, "kind", "'Model'"),
        ({**manifest(), "metadata": {"labels": {"a": 1}}}, "metadata.labels", "send text values"),
        (
            manifest(
                "churn", predictor={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}
            ),
            "spec.predictor.env.0.valueFrom",
            "is not a field of this body",
        ),
        (
            manifest("churn", predictor={"serviceAccountName": "slipway-controller"}),
            "spec.predictor.serviceAccountName",
            "cannot be set over HTTP; set it by kubectl, or let an operator add",
        ),
        (manifest("churn", training=JOB), "spec.training.job", "cannot be set over HTTP"),
        (manifest("churn", description="x" * 70_000), "", "larger than 65536 bytes"),
        (manifest("churn", predictor=json.loads('{"a":' * 80 + "1" + "}" * 80)), "spec", "levels"),
    ],
)
def test_an_invalid_model_is_rejected_with_the_field_and_the_remedy(
    declared: Environment, marie: Author, content: Any, field: str, problem: str
) -> None:
    refused = marie.send("PUT", "/churn", content)
    assert refused.headers["content-type"] == "application/problem+json"
    assert problem in refused.text
    if field:
        assert refused.status_code == 422
        assert field in [each["field"] for each in refused.json()["errors"]]
    else:
        assert refused.status_code == 413
    with pytest.raises(NotFound):
        stored(declared, "churn")


def test_a_name_has_the_form_of_a_model(marie: Author) -> None:
    for refused in (
        marie.send("POST", "", manifest("Churn")),
        marie.send("PUT", "/Churn", manifest("Churn")),
    ):
        assert refused.status_code == 422
        assert "metadata.name: 'Churn' does not match the pattern" in refused.json()["detail"]
    assert marie.send("GET", "/Churn/declaration").status_code == 404
    assert marie.send("DELETE", "/%2e%2e").status_code == 404


def test_only_scientists_and_admins_with_the_grant_declare_models(
    client: Client, issuer: Issuer
) -> None:
    for user in (issuer.token("ada", "user"), issuer.token("nightly", client_id="nightly")):
        author = Author(client, user)
        for method, path in (("POST", ""), ("PUT", "/mine"), ("DELETE", "/heart")):
            refused = author.send(method, path, manifest("mine"))
            assert refused.status_code == 403
    assert Author(client, issuer.token("root", "admin")).send("DELETE", "/none").status_code == 404


def test_a_registered_model_of_another_grant_cannot_be_served_by_a_second_name(
    new_environment: Callable[[], Environment], issuer: Issuer
) -> None:
    environment = new_environment()
    environment.model("secret", ("3", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("DELETE FROM grants")
        connection.execute("INSERT INTO grants VALUES ('a', 'group:scientist', 'my-*', 'default')")
    with environment.gateway() as client:
        marie = Author(client, issuer.token("marie", "scientist"))
        for answer in (
            marie.send("POST", "", manifest("other")),
            marie.send("PUT", "/other", manifest("other")),
            marie.send("DELETE", "/secret"),
        ):
            assert (answer.status_code, "is not granted to you" in answer.text) == (403, True)
        stolen = marie.send("POST", "", manifest("my-copy", registeredModel="secret"))
        assert stolen.status_code == 403
        assert (
            "spec.registeredModel: secret is served by a model that is not granted"
            in (stolen.json()["detail"])
        )
        assert marie.send("POST", "", manifest("my-own")).status_code == 201
        until(lambda: client.gateway.data.routes.snapshot, lambda routes: "my-own" in routes)
        assert client.get("/v1/models", marie.token).json()["models"][0]["name"] == "my-own"


def test_a_trusted_field_of_kubectl_is_kept_and_bound_to_its_registered_model() -> None:
    former = {"registeredModel": "a", "allowFormats": ["joblib"], "training": {"template": "t"}}
    check_trusted(former | {"owner": "x"}, former, ())
    check_trusted({"registeredModel": "b"}, former, ())  # without the fields
    check_trusted(former | {"registeredModel": "b"}, former, ("allowFormats",))
    for changed, field in (
        ({"registeredModel": "b"}, "spec.registeredModel: cannot be changed"),
        ({"allowFormats": ["joblib", "onnx"]}, "spec.allowFormats: gives rights"),
        ({"training": {"template": "backup"}}, "spec.training.template: gives rights"),
        ({"predictor": {"podAnnotations": {"a.example/b": "c"}}}, "spec.predictor.podAnnotations"),
        ({"predictor": {"format": "sklearn"}}, "spec.predictor.format"),
        ({"predictor": {"affinity": {"podAffinity": {}}}}, "spec.predictor.affinity"),
        ({"predictor": {"tolerations": [{"key": "gpu"}]}}, "spec.predictor.tolerations"),
        ({"training": {"job": {}}}, "spec.training.job: gives rights"),
    ):
        with pytest.raises(ValueError, match=field):
            check_trusted(former | changed, former, ())


def test_variables_of_a_runtime_that_an_operator_chose_are_trusted() -> None:
    runtime = {"runtime": "triton", "env": [{"name": "A", "value": "1"}]}
    former = {"registeredModel": "a", "predictor": runtime}
    check_trusted(former, former, ())
    changed = {"registeredModel": "a", "predictor": {**runtime, "env": [{"name": "B"}]}}
    with pytest.raises(ValueError, match=r"spec\.predictor\.env: gives rights"):
        check_trusted(changed, former, ())
    check_trusted(changed, former, ("predictor.runtime",))
    check_trusted({"predictor": {"env": [{"name": "B"}]}}, {}, ())


def test_a_field_in_the_spelling_of_python_is_unknown(marie: Author) -> None:
    for spec in ({"allow_formats": ["joblib"]}, {"predictor": {"service_account_name": "admin"}}):
        answer = marie.send("PUT", "/spelt", manifest("spelt", **spec))
        assert answer.status_code == 422
        assert "is not a field of this body" in answer.text


def test_an_unknown_trusted_field_is_no_valid_setting(declared: Environment) -> None:
    with pytest.raises(ValueError, match="'image' is no trusted field; these are: allowFormats"):
        declared.settings(trusted_model_fields=["image"])


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ],
)
def test_a_merge_patch_is_that_of_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    assert merged(target, patch) == expected


def test_a_merge_patch_has_a_content_type_of_its_own(marie: Author) -> None:
    marie.send("PUT", "/typed", manifest("typed"))
    for content_type, status in (
        ("application/merge-patch+json", 200),
        ("application/json-patch+json", 415),
    ):
        answer = marie.client.http.patch(
            "/v1/models/typed",
            content=b'{"spec": {"owner": "team-b"}}',
            headers={"authorization": f"Bearer {marie.token}", "content-type": content_type},
        )
        assert answer.status_code == status


names = st.from_regex(r"[A-Z][A-Z0-9_]{0,9}", fullmatch=True).filter(
    lambda name: (
        not name.startswith(("PYTHON", "LD_", "OPENSSL_", "KUBERNETES_"))
        and name not in ("PATH", "HOME", "TMPDIR", "ENV")
    )
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
owners = st.from_regex(r"[a-z<>@ü][a-z <>@ü]{0,8}[a-z]", fullmatch=True)
labels = st.dictionaries(st.sampled_from(["a", "example.org/b"]), st.sampled_from(["", "x", "Y-1"]))
variables = st.dictionaries(names, texts, max_size=3).map(
    lambda given: [{"name": name, "value": value} for name, value in given.items()]
)
amounts = st.sampled_from([1, "1", "500m", "2Gi", "0.5"])
predictors = st.fixed_dictionaries(
    {},
    optional={
        "runtime": st.just("example-runtime"),
        "env": variables,
        "resources": st.fixed_dictionaries(
            {}, optional={"limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), amounts)}
        ),
        "nodeSelector": labels,
        "tolerations": st.lists(
            st.just({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}), max_size=2
        ),
        "serviceAccountName": st.just("puller"),
        "podLabels": labels,
    },
)
jobs = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["example.org/a:1", f"b@sha256:{'0' * 64}"]),
        "args": st.lists(texts, max_size=3),
        "env": variables,
        "schedule": st.sampled_from(["0 4 * * 1", "@daily", "*/5 1-3 * jan mon"]),
        "deadlineSeconds": st.integers(60, 604800),
        "parameters": st.just(
            {"type": "object", "properties": {"seed": {"type": "integer", "minimum": 1}}}
        ),
    },
)
specs = st.fixed_dictionaries(
    {"registeredModel": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,9}", fullmatch=True)},
    optional={
        "description": texts.filter(bool),
        "owner": owners,
        "alias": texts.filter(bool),
        "allowFormats": st.lists(st.sampled_from(["joblib", "onnx"]), max_size=2),
        "scale": st.fixed_dictionaries(
            {"maxReplicas": st.integers(3, 100)}, optional={"minReplicas": st.integers(1, 3)}
        ),
        "batching": st.one_of(st.none(), st.just({}), st.just({"maxBatchTime": 0.25})),
        "rollout": st.fixed_dictionaries(
            {}, optional={"steps": st.sets(st.integers(1, 99), max_size=4).map(sorted)}
        ),
        "predictor": st.none() | predictors,
        "training": st.one_of(
            st.none(), st.just({"template": "train-heart"}), jobs.map(lambda job: {"job": job})
        ),
    },
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=specs)
def test_what_the_contract_accepts_makes_a_round_trip(
    declared: Environment, trusting: Client, issuer: Issuer, spec: dict[str, Any]
) -> None:
    body = {**manifest("round"), "spec": spec}
    wanted: Model = admitted(body)
    author = Author(trusting, issuer.token("marie", "scientist"))
    written = author.send("PUT", "/round", body)
    assert written.status_code in (200, 201), written.text
    found = author.send("GET", "/round/declaration")
    assert admitted(found.json()).spec == wanted.spec
    assert admitted(stored(declared, "round")).spec == wanted.spec
    entries = len(author.audit())
    repeated = author.send("PUT", "/round", found.json())
    assert (repeated.status_code, repeated.headers["etag"]) == (200, found.headers["etag"])
    unchanged = author.send("PATCH", "/round", {}, if_match=found.headers["etag"])
    assert (unchanged.status_code, unchanged.headers["etag"]) == (200, found.headers["etag"])
    assert len(author.audit()) == entries
