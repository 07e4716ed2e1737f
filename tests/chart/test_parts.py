"""Settings and permissions of the parts."""

import base64
import json
import re
import tomllib
from collections import defaultdict
from ipaddress import ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from pydantic import SecretStr
from pydantic_settings import BaseSettings
from slipway.training.installed import declared_task
from slipway.training.task import parameters_schema
from slipway_controller.settings import ControllerSettings
from slipway_gateway.identity.groups import GroupClaim
from slipway_gateway.identity.roles import Role
from slipway_gateway.settings import Settings as GatewaySettings
from slipway_identity.settings import IdentitySettings
from slipway_jobs.settings import Settings as JobSettings
from slipway_jobs.settings import SimulatorSettings

from tests.chart.chart import (
    CHART,
    Object,
    PodTemplate,
    Refused,
    Rendering,
    environment,
    quantity,
    render,
)

COMPONENT = "app.kubernetes.io/component"


def pod(rendering: Rendering, owner: str) -> PodTemplate:
    (found,) = [each for each in rendering.pods if each.owner == owner]
    return found


def container(rendering: Rendering, owner: str, name: str) -> Object:
    (found,) = [each for each in pod(rendering, owner).containers if each["name"] == name]
    return found


def variables(settings: type[BaseSettings]) -> set[str]:
    """Return the environment variables of a program's settings."""
    prefix = settings.model_config.get("env_prefix", "")
    fields = settings.model_fields.items()
    return {str(field.validation_alias or prefix + name).upper() for name, field in fields}


@pytest.mark.parametrize(
    ("owner", "name", "settings"),
    [
        ("Deployment slipway-gateway", "gateway", GatewaySettings),
        ("Deployment slipway-gateway", "migrate", GatewaySettings),
        ("Deployment slipway-worker", "worker", GatewaySettings),
        ("Deployment slipway-controller", "controller", ControllerSettings),
        ("CronJob train", "job", JobSettings),
        ("CronJob monitor", "job", JobSettings),
        ("CronJob batch", "job", JobSettings),
    ],
)
def test_a_program_starts_with_its_environment_and_uses_every_variable(
    default: Rendering,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    name: str,
    settings: type[BaseSettings],
) -> None:
    env = environment(container(default, owner, name))
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    settings()
    assert {each for each in env if each.startswith("SLIPWAY_")} <= variables(settings)


def test_the_identity_provider_gets_its_accounts(
    default: Rendering, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(container(default, "Deployment slipway-identity", "bootstrap"))
    env["SLIPWAY_IDENTITY_ACCOUNTS"] = default.secrets["slipway-identity/accounts"]
    env["SLIPWAY_IDENTITY_SERVICE_ACCOUNTS"] = default.secrets["slipway-simulator/service-accounts"]
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    settings = IdentitySettings()
    assert (
        settings.accounts["admin"].password.get_secret_value()
        == default.secrets["slipway-identity/password-admin"]
    )
    (robot,) = settings.service_accounts.values()
    assert robot.secret.get_secret_value() == default.secrets["slipway-simulator/client-secret"]
    gateway = environment(container(default, "Deployment slipway-gateway", "gateway"))
    assert settings.audience == gateway["SLIPWAY_OIDC_AUDIENCE"] != settings.client_id
    assert settings.client_id == gateway["SLIPWAY_DOCS_CLIENT"]
    assert gateway["SLIPWAY_OIDC_REQUIRE_AT_JWT"] == "true"
    assert not settings.public_password_grant


def test_only_the_gateway_the_worker_and_the_provider_have_the_scim_secret(
    default: Rendering,
) -> None:
    wanted = {"name": "slipway-identity", "key": "scim-secret"}
    knows = {
        template.owner
        for template in default.pods
        for each in template.containers
        for variable in each.get("env", [])
        if variable.get("valueFrom", {}).get("secretKeyRef") == wanted
    }
    assert knows == {
        "Deployment slipway-gateway",
        "Deployment slipway-worker",
        "Deployment slipway-identity",
    }
    assert len(default.secrets["slipway-identity/scim-secret"]) >= 32


def test_the_values_set_the_claims_of_another_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    values = (
        "rolesClaim=realm_access.roles",
        "rolesPrefix=/",
        "roles.ml=admin",
        "refusedClaims={at_hash}",
        "requireAtJwt=true",
    )
    rendering = render(
        None,
        "gateway.oidc.issuer=https://login.example.com",
        *(f"gateway.oidc.{value}" for value in values),
    )
    for variable, value in environment(
        container(rendering, "Deployment slipway-gateway", "gateway")
    ).items():
        if "OIDC" in variable:
            monkeypatch.setenv(variable, value)
    rules = GatewaySettings(
        cluster="local:///x", database_url=SecretStr("postgresql://x")
    ).token_rules
    assert rules.groups == GroupClaim("realm_access.roles", "/", {"ml": Role.ADMIN})
    assert (rules.require_at_jwt, rules.refused_claims) == (True, frozenset({"at_hash"}))


def test_another_issuer_may_leave_access_tokens_unmarked() -> None:
    rendering = render(None, "gateway.oidc.issuer=https://login.example.com")
    env = environment(container(rendering, "Deployment slipway-gateway", "gateway"))
    assert env["SLIPWAY_OIDC_REQUIRE_AT_JWT"] == "false"


def test_a_gateway_with_another_issuer_has_no_scim_settings() -> None:
    env = environment(
        container(
            render(None, "gateway.oidc.issuer=https://login.example.com"),
            "Deployment slipway-gateway",
            "gateway",
        )
    )
    assert not [name for name in env if "SCIM" in name]


@pytest.mark.parametrize(
    ("encryption", "tls", "ssl"),
    [("starttls", True, False), ("tls", False, True), ("none", False, False)],
)
def test_the_values_set_registration_and_mail(encryption: str, tls: bool, ssl: bool) -> None:
    values = (
        "identity.registration=true",
        "identity.smtp.host=mail.example.com",
        f"identity.smtp.tls={encryption}",
    )
    canaille = provider_config(render(None, *values))["CANAILLE"]
    assert canaille["ENABLE_REGISTRATION"] is True
    assert canaille["SMTP"] == {"HOST": "mail.example.com", "PORT": 587, "TLS": tls, "SSL": ssl}


def test_by_default_there_is_no_registration_no_mail_and_a_reset_by_link(
    default: Rendering,
) -> None:
    config = provider_config(default)
    assert config["CANAILLE"]["ENABLE_REGISTRATION"] is False
    assert "SMTP" not in config["CANAILLE"]
    assert config["TRUSTED_HOSTS"] == ["127.0.0.1", "localhost"]
    public = provider_config(render(None, "identity.url=https://login.example.com"))
    assert public["TRUSTED_HOSTS"] == ["login.example.com"]


def provider_config(rendering: Rendering) -> Object:
    return tomllib.loads(rendering.of("ConfigMap")["slipway-identity"]["data"]["canaille.toml"])


def test_service_accounts_come_from_a_secret(default: Rendering, everything: Rendering) -> None:
    for rendering, secret in ((default, "slipway-simulator"), (everything, "robots")):
        env = container(rendering, "Deployment slipway-identity", "bootstrap")["env"]
        (given,) = [each for each in env if each["name"] == "SLIPWAY_IDENTITY_SERVICE_ACCOUNTS"]
        assert given["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "service-accounts"}
    without = render(None, "simulator.existingSecret=robot")
    assert "SLIPWAY_IDENTITY_SERVICE_ACCOUNTS" not in environment(
        container(without, "Deployment slipway-identity", "bootstrap")
    )


def test_the_gateway_drains_before_it_ends_and_ends_before_it_is_killed(default: Rendering) -> None:
    spec = pod(default, "Deployment slipway-gateway").spec
    gateway = container(default, "Deployment slipway-gateway", "gateway")
    drain = int(environment(gateway)["SLIPWAY_DRAIN_SECONDS"])
    assert drain >= 3
    assert "lifecycle" not in gateway, (
        "during a preStop hook the gateway would not close connections"
    )
    assert spec["terminationGracePeriodSeconds"] >= drain + 20 + 20
    assert environment(gateway)["SLIPWAY_GRACE_SECONDS"] == str(
        spec["terminationGracePeriodSeconds"]
    )


def test_the_grace_period_of_the_gateway_is_one_value() -> None:
    changed = render(None, "gateway.terminationGracePeriodSeconds=600")
    assert pod(changed, "Deployment slipway-gateway").spec["terminationGracePeriodSeconds"] == 600
    for owner, name in (
        ("Deployment slipway-gateway", "gateway"),
        ("Deployment slipway-worker", "worker"),
    ):
        assert environment(container(changed, owner, name))["SLIPWAY_GRACE_SECONDS"] == "600"
    with pytest.raises(Refused, match=r"set gateway\.terminationGracePeriodSeconds to 70 or more"):
        render(None, "gateway.terminationGracePeriodSeconds=60", "gateway.drainSeconds=30")


def test_a_persistent_spool_is_a_claim_of_each_replica_that_outlives_its_pod() -> None:
    persistent = render(
        None,
        "gateway.spool.persistence.enabled=true",
        "gateway.spool.persistence.storageClass=fast",
    )
    gateway = persistent.of("StatefulSet")["slipway-gateway"]["spec"]
    assert "slipway-gateway" not in persistent.of("Deployment")
    (claim,) = gateway["volumeClaimTemplates"]
    assert (claim["metadata"]["name"], claim["spec"]["storageClassName"]) == ("spool", "fast")
    assert gateway["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    limit = int(
        environment(container(persistent, "StatefulSet slipway-gateway", "gateway"))[
            "SLIPWAY_SPOOL_LIMIT"
        ]
    )
    assert limit < quantity(claim["spec"]["resources"]["requests"]["storage"])
    assert "spool" not in [each["name"] for each in gateway["template"]["spec"]["volumes"]]
    assert (
        persistent.of("HorizontalPodAutoscaler")["slipway-gateway"]["spec"]["scaleTargetRef"][
            "kind"
        ]
        == "StatefulSet"
    )
    assert gateway["serviceName"] in persistent.of("Service")


def test_the_gateway_rejects_predictions_before_the_kubelet_evicts_it(default: Rendering) -> None:
    limit = int(
        environment(container(default, "Deployment slipway-gateway", "gateway"))[
            "SLIPWAY_SPOOL_LIMIT"
        ]
    )
    (spool,) = [
        each
        for each in pod(default, "Deployment slipway-gateway").spec["volumes"]
        if each["name"] == "spool"
    ]
    assert limit < quantity(spool["emptyDir"]["sizeLimit"])


def test_limits_and_proxies_reach_the_gateway(default: Rendering, everything: Rendering) -> None:
    by_default, given = (
        environment(container(each, "Deployment slipway-gateway", "gateway"))
        for each in (default, everything)
    )
    expected = {
        "PREDICTIONS_PER_MINUTE": ("180", "10000000"),
        "TRAINING_PER_MINUTE": ("5", "2"),
        "REQUESTS_PER_MINUTE": ("3000", "600"),
        "CONCURRENCY_PER_CALLER": ("64", "8"),
        "REFUSED_PER_MINUTE": (None, "60"),
        "TRUSTED_PROXIES": (None, "10.0.0.0/8,fd00::/8"),
    }
    assert {
        name: (by_default.get(f"SLIPWAY_{name}"), given.get(f"SLIPWAY_{name}")) for name in expected
    } == expected


def test_gateway_and_worker_share_the_response_cache_of_a_redis(
    default: Rendering, everything: Rendering, external: Rendering
) -> None:
    for owner, name in (
        ("Deployment slipway-gateway", "gateway"),
        ("Deployment slipway-worker", "worker"),
    ):
        none, bundled, other = (
            container(each, owner, name) for each in (default, everything, external)
        )
        assert not [each for each in environment(none) if "REDIS" in each]
        assert (
            environment(bundled)["SLIPWAY_REDIS_URL"] == "redis://slipway-redis.slipway.svc:6379/0"
        )
        assert environment(other)["SLIPWAY_REDIS_URL"] == "rediss://cache.example.com:6379/0"
        assert [_redis_password(each) for each in (bundled, other)] == ["slipway-redis", "cache"]
    assert not external.of("Deployment").keys() & {"slipway-redis"}
    assert {"slipway-gateway-to-redis-in", "slipway-worker-to-redis-in"} <= everything.of(
        "NetworkPolicy"
    ).keys()
    without_secret = environment(
        container(render(None, "redis.url=redis://a:6379"), "Deployment slipway-gateway", "gateway")
    )
    assert "SLIPWAY_REDIS_PASSWORD" not in without_secret, "an external one without a password"


def _redis_password(one: Object) -> str:
    (found,) = [each for each in one["env"] if each["name"] == "SLIPWAY_REDIS_PASSWORD"]
    assert found["valueFrom"]["secretKeyRef"]["key"] == "password"
    return str(found["valueFrom"]["secretKeyRef"]["name"])


def test_the_bundled_redis_requires_a_password_evicts_and_persists_nothing(
    everything: Rendering,
) -> None:
    redis = container(everything, "Deployment slipway-redis", "redis")
    shell = redis["command"][-1]
    config = dict(
        line.strip().split(" ", 1)
        for line in shell.partition("<<CONFIG\n")[2].partition("CONFIG")[0].splitlines()
    )
    assert config.pop("requirepass") == '"$REDISCLI_AUTH"'
    assert config == {
        "save": '""',
        "appendonly": "no",
        "maxmemory": "64mb",
        "maxmemory-policy": "allkeys-lru",
    }
    assert len(everything.secrets["slipway-redis/password"]) == 32
    assert quantity(redis["resources"]["limits"]["memory"]) >= 1.5 * 64 * 2**20, (
        "its own needs, and copies while it writes"
    )
    assert not everything.of("PersistentVolumeClaim").keys() & {"slipway-redis"}


def test_planes_can_be_deployed_apart_and_share_one_host(default: Rendering) -> None:
    one = environment(container(default, "Deployment slipway-gateway", "gateway"))
    assert one["SLIPWAY_GATEWAY_PLANES"] == "inference,control"
    assert "slipway-gateway-control" not in default.of("Service")
    options = ("ingress.enabled=true", "ingress.host=a", "httpRoute.enabled=true")
    apart = render(
        None,
        "gateway.planes.apart=true",
        "gateway.httpRoute.parentRefs[0].name=public",
        *(f"gateway.{option}" for option in options),
    )
    for name, planes in (("gateway", "inference"), ("gateway-control", "control")):
        owner = f"Deployment slipway-{name}"
        served = environment(container(apart, owner, "gateway"))["SLIPWAY_GATEWAY_PLANES"]
        assert served == planes
        labels = pod(apart, owner).labels
        for service in (name, f"{name}-metrics"):
            selector = apart.of("Service")[f"slipway-{service}"]["spec"]["selector"]
            assert selector.items() <= labels.items()
        budget = apart.of("PodDisruptionBudget")[f"slipway-{name}"]["spec"]["selector"]
        assert budget["matchLabels"].items() <= labels.items()
        for policy in apart.of("NetworkPolicy").values():
            for expression in policy["spec"]["podSelector"].get("matchExpressions", []):
                assert expression["key"] != COMPONENT or labels[COMPONENT] in expression["values"]
    paths = apart.of("Ingress")["slipway-gateway"]["spec"]["rules"][0]["http"]["paths"]
    assert {each["path"]: each["backend"]["service"]["name"] for each in paths} == {
        "/v1/models/[^/]+/predictions": "slipway-gateway",
        "/v1/predictions": "slipway-gateway",
        "/v2": "slipway-gateway",
        "/": "slipway-gateway-control",
    }
    data, others = apart.of("HTTPRoute")["slipway-gateway"]["spec"]["rules"]
    assert others["matches"] == [{"path": {"type": "RegularExpression", "value": "/.*"}}], (
        "a prefix is before a regular expression in some implementations"
    )
    matched = {each["path"]["value"] for each in data["matches"]}
    assert matched == {each["path"] for each in paths[:-1]}
    assert data["backendRefs"][0]["name"] == "slipway-gateway"
    assert others["backendRefs"][0]["name"] == "slipway-gateway-control"


def test_two_gateways_survive_a_drain(default: Rendering) -> None:
    assert default.of("HorizontalPodAutoscaler")["slipway-gateway"]["spec"]["minReplicas"] == 2
    assert default.of("PodDisruptionBudget")["slipway-gateway"]["spec"]["maxUnavailable"] == 1
    assert "replicas" not in default.of("Deployment")["slipway-gateway"]["spec"], (
        "an upgrade would undo the autoscaler"
    )


def test_there_is_never_a_second_controller(default: Rendering) -> None:
    spec = default.of("Deployment")["slipway-controller"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_controller_may_cancel_jobs_but_not_change_them(default: Rendering) -> None:
    rules = default.of("Role")["slipway-controller"]["rules"]
    (jobs,) = [rule for rule in rules if rule["resources"] == ["jobs"]]
    assert {*jobs["verbs"]} == {"get", "list", "create", "delete"}


def test_the_gateway_may_write_only_jobs_and_models(default: Rendering) -> None:
    rules = default.of("Role")["slipway-gateway"]["rules"]
    written = {
        (resource, verb)
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    }
    models = {("models", verb) for verb in ("create", "update", "delete")}
    assert written == {("jobs", "create"), ("jobs", "delete")} | models
    assert not {resource for rule in rules for resource in rule["resources"]} & {
        "secrets",
        "pods/exec",
        "*",
    }


def test_a_training_template_has_the_schema_of_its_parameters(kind: Rendering) -> None:
    templates = kind.of("CronJob")
    for model in ("heart", "digits"):
        schema = templates[f"train-{model}"]["metadata"]["annotations"]["slipway.dev/parameters"]
        assert json.loads(schema) == parameters_schema(declared_task(model))
    assert "annotations" not in templates["promote"]["metadata"]
    own = "training.templates.mine.parameters.properties.depth.type=integer"
    mine = render(None, "training.templates.mine.args[0]=train", own).of("CronJob")["mine"][
        "metadata"
    ]["annotations"]
    assert json.loads(mine["slipway.dev/parameters"]) == {
        "properties": {"depth": {"type": "integer"}}
    }


def test_the_program_of_a_models_author_has_the_registry_but_no_database_and_no_key(
    default: Rendering,
) -> None:
    names = environment(container(default, "CronJob train", "job")).keys()
    assert names >= {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "SLIPWAY_IMAGE"}
    assert not names & {"SLIPWAY_DATABASE_URL", "PGPASSWORD", "SLIPWAY_SIGNING_KEY"}
    spec = default.of("CronJob")["train"]["spec"]
    assert spec["suspend"] is True
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "4096Mi"}}]
    assert pod["automountServiceAccountToken"] is False


def test_the_template_of_declared_trainings_cannot_be_replaced() -> None:
    with pytest.raises(Refused, match="choose another one"):
        render(None, "training.templates.train.args[0]=promote")


def test_submitted_jobs_are_kept_for_their_ttl_independent_of_later_ones(
    default: Rendering,
) -> None:
    spec = default.of("CronJob")["train"]["spec"]
    assert min(spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) >= 1000
    assert spec["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] == 86400


def test_a_batch_is_retried_and_only_its_job_may_call_predictors(default: Rendering) -> None:
    assert default.of("CronJob")["batch"]["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 6
    assert "SLIPWAY_PREDICTOR_TOKEN" in environment(container(default, "CronJob batch", "job"))
    assert default.of("CronJob")["train"]["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert "SLIPWAY_PREDICTOR_TOKEN" not in environment(container(default, "CronJob train", "job"))


def test_a_worker_has_read_permissions_only(default: Rendering) -> None:
    for rule in default.of("Role")["slipway-worker"]["rules"]:
        assert {*rule["verbs"]} <= {"get", "list", "watch"}
        assert {*rule["resources"]} <= {"models", "endpointslices"}
    edges = {
        name
        for name in default.of("NetworkPolicy")
        if name.startswith("slipway-worker-") and not name.endswith("-in")
    }
    assert edges == {
        f"slipway-worker-to-{each}" for each in ("kubernetes", "predictor-out", "postgresql-out")
    }


def test_readiness_is_that_of_the_model(default: Rendering) -> None:
    runtime = container(default, "ClusterServingRuntime slipway-mlserver", "kserve-container")
    for probe in ("startupProbe", "readinessProbe"):
        assert runtime[probe]["httpGet"]["path"] == "/v2/models/{{.Name}}/ready"
    assert runtime["lifecycle"]["preStop"]["sleep"]["seconds"] == 5


def test_predictors_and_mlflow_require_authentication(default: Rendering) -> None:
    runtime = container(default, "ClusterServingRuntime slipway-mlserver", "kserve-container")
    assert "SLIPWAY_SERVING_TOKEN" in environment(runtime)
    assert (
        "--app-name=basic-auth" in container(default, "Deployment slipway-mlflow", "mlflow")["args"]
    )
    storage = container(default, "ClusterStorageContainer slipway-mlflow", "storage-initializer")
    secrets = {
        each["valueFrom"]["secretKeyRef"]["name"]
        for each in storage["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    assert secrets == {"slipway-predictor"}, "the same name in every release's namespace"


def test_only_jobs_that_register_have_the_private_key_and_predictors_the_public_one(
    default: Rendering, public: Rendering
) -> None:
    for rendering, secret in ((default, "slipway-signing"), (public, "signing")):
        holders = {
            each.owner.removeprefix("CronJob ")
            for each in rendering.pods
            for volume in each.spec.get("volumes", [])
            if volume.get("secret", {}).get("secretName") == secret
        }
        trainings = {
            name for name in rendering.of("CronJob") if name.startswith(("train-", "tune-"))
        }
        assert holders == trainings | {"adopt", "register", "sign", "promote"}
        storage = container(
            rendering, "ClusterStorageContainer slipway-mlflow", "storage-initializer"
        )
        env = {each["name"]: each for each in storage["env"]}
        assert env["SLIPWAY_STORAGE_REQUIRE_SIGNED"]["value"] == "true"
        source = env["SLIPWAY_STORAGE_TRUSTED_KEYS"]["valueFrom"]["configMapKeyRef"]
        assert rendering.of("ConfigMap")[source["name"]]["data"][source["key"]].startswith(
            "-----BEGIN"
        )
    assert "slipway-signing/private-key" not in public.secrets


def test_the_generated_certificate_is_that_of_the_generated_key(default: Rendering) -> None:
    key = load_pem_private_key(default.secrets["slipway-signing/private-key"].encode(), None)
    trusted = default.of("ConfigMap")["slipway-trusted-keys"]["data"]["keys.pem"]
    certificate = load_pem_x509_certificate(trusted.encode())
    assert isinstance(key, EllipticCurvePrivateKey)
    assert certificate.public_key() == key.public_key()
    assert "PRIVATE" not in trusted


def test_an_existing_private_key_needs_its_public_key() -> None:
    with pytest.raises(Refused, match=r"set signing\.trustedKeys"):
        render(None, "signing.existingSecret=mine")
    render(None, "signing.existingSecret=mine", "signing.required=false")


def test_the_workers_of_a_sweep_get_its_name_from_their_job(kind: Rendering) -> None:
    template = kind.of("CronJob")["tune-heart"]
    job = template["spec"]["jobTemplate"]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    (name,) = [
        each
        for each in container(kind, "CronJob tune-heart", "job")["env"]
        if each["name"] == "SLIPWAY_SWEEP"
    ]
    assert (
        name["valueFrom"]["fieldRef"]["fieldPath"]
        == "metadata.labels['batch.kubernetes.io/job-name']"
    )
    assert json.loads(
        template["metadata"]["annotations"]["slipway.dev/parameters"]
    ) == parameters_schema(declared_task("heart"))


def test_the_simulator_has_no_replicas_and_its_own_account(default: Rendering) -> None:
    assert default.of("Deployment")["slipway-simulator"]["spec"]["replicas"] == 0
    secret = default.of("Secret")["slipway-simulator"]["data"]
    known = json.loads(base64.b64decode(secret["service-accounts"]))
    assert known == {"simulator": {"secret": base64.b64decode(secret["client-secret"]).decode()}}
    assert len(known["simulator"]["secret"]) >= 32
    env = environment(container(default, "Deployment slipway-simulator", "simulator"))
    assert variables(SimulatorSettings) >= {name for name in env if name.startswith("SLIPWAY_")}
    assert env["SLIPWAY_URL"] == "http://slipway-gateway.slipway.svc:8080"
    assert not [name for name in env if name.startswith(("MLFLOW", "PG"))], (
        "it needs neither registry nor database"
    )


def test_a_simulator_with_an_existing_account_uses_it(
    everything: Rendering, external: Rendering
) -> None:
    (login,) = [
        each["valueFrom"]["secretKeyRef"]
        for each in container(everything, "Deployment slipway-simulator", "simulator")["env"]
        if each["name"] == "SLIPWAY_CLIENT_SECRET"
    ]
    assert login == {"name": "simulator", "key": "client-secret"}
    assert "slipway-simulator" not in everything.of("Secret")
    assert "slipway-simulator" not in external.of("Deployment"), (
        "the provider there cannot create its account"
    )


def test_everything_can_be_external(external: Rendering) -> None:
    assert {*external.of("Deployment")} == {
        "slipway-gateway",
        "slipway-worker",
        "slipway-controller",
    }
    assert not external.of("StatefulSet")
    assert not external.of("Secret")
    assert not external.of("ClusterServingRuntime")
    env = environment(container(external, "Deployment slipway-gateway", "gateway"))
    assert (
        env["SLIPWAY_DATABASE_URL"]
        == "postgresql://db.example.com:5432/slipway?sslmode=verify-full"
    )
    assert env["SLIPWAY_OIDC_ISSUER"] == "https://login.example.com/realms/ml"


def test_only_a_restore_may_create_databases(everything: Rendering, external: Rendering) -> None:
    def administrator(rendering: Rendering, job: str) -> list[Object]:
        return [
            each
            for each in pod(rendering, f"CronJob {job}").spec["volumes"]
            if each["name"] == "administrator"
        ]

    (superuser,) = administrator(everything, "slipway-restore")
    assert [
        source["secret"]["name"]
        for source in superuser["projected"]["sources"]
        if "secret" in source
    ] == ["slipway-postgresql"]
    assert administrator(everything, "slipway-backup") == []
    assert administrator(external, "slipway-restore") == []
    named = render(CHART / "ci" / "external.yaml", "backup.administratorSecret=dba")
    assert [
        volume["secret"]["secretName"] for volume in administrator(named, "slipway-restore")
    ] == ["dba"]


def test_all_connections_are_denied_by_default(default: Rendering) -> None:
    (deny,) = [
        each
        for each in default.of("NetworkPolicy").values()
        if each["spec"]["podSelector"] == {} and "Ingress" in each["spec"]["policyTypes"]
    ]
    assert {*deny["spec"]["policyTypes"]} == {"Ingress", "Egress"}
    assert "ingress" not in deny["spec"]
    assert "egress" not in deny["spec"]


def test_every_connection_is_allowed_at_both_ends_and_leads_to_an_open_port(
    everything: Rendering,
) -> None:
    policies = everything.of("NetworkPolicy")
    ports: defaultdict[str | None, set[int]] = defaultdict(set)
    for each in everything.pods:
        for one in each.containers:
            ports[each.labels.get(COMPONENT)] |= {
                port["containerPort"] for port in one.get("ports", [])
            }
    ports["predictor"] = ports.pop(None)
    edges = {name.removesuffix("-out") for name in policies if name.endswith("-out")}
    assert edges == {name.removesuffix("-in") for name in policies if name.endswith("-in")}
    for edge in edges:
        (rule,) = policies[f"{edge}-in"]["spec"]["ingress"]
        assert policies[f"{edge}-out"]["spec"]["egress"][0]["ports"] == rule["ports"]
        target = edge.rpartition("-to-")[2]
        assert {port["port"] for port in rule["ports"]} <= ports[target], edge


def test_a_component_without_a_public_address_is_closed_to_the_outside(default: Rendering) -> None:
    open_to_all = {name for name in default.of("NetworkPolicy") if "-world-to-" in name}
    assert open_to_all == {"slipway-world-to-gateway"}
    opened = render(None, "mlflow.service.type=NodePort").of("NetworkPolicy")
    assert "slipway-world-to-mlflow" in opened


API_SERVER = {f"private:{port}" for port in (443, 6443)}
DNS = {"kube-dns:53"}
EGRESS = {
    "gateway": {"predictor:8080", "identity:8000", "redis:6379", "postgresql:5432", *API_SERVER},
    "worker": {"predictor:8080", "redis:6379", "postgresql:5432", *API_SERVER},
    "controller": {"predictor:8080", "mlflow:5000", *API_SERVER},
    "training": {"predictor:8080", "mlflow:5000", "postgresql:5432", "internet:443"},
    "simulator": {"gateway:8080", "identity:8000", "internet:443"},
    "mlflow": {"postgresql:5432", "10.1.2.0/24:443"},
    "identity": {"postgresql:5432"},
    "backup": {"postgresql:5432"},
    "accounts": {"mlflow:5000"},
    "predictor": {"mlflow:5000"},
    "test": {"gateway:8080", "identity:8000", "mlflow:5000"},
    "postgresql": set[str](),
    "redis": set[str](),
}
"""Allowed destinations of each component in addition to DNS."""


def destinations(rendering: Rendering, component: str) -> set[str]:
    """Return the destinations of the component's pods; ``anywhere`` for a rule without a peer."""
    found: set[str] = set()
    for policy in rendering.of("NetworkPolicy").values():
        if "Egress" not in policy["spec"]["policyTypes"] or not selects(
            policy["spec"]["podSelector"], component
        ):
            continue
        for rule in policy["spec"].get("egress", []):
            ports = [port["port"] for port in rule.get("ports", [{"port": "any"}])]
            found |= {f"{named(peer)}:{port}" for peer in rule.get("to") or [{}] for port in ports}
    return found


def selects(selector: Object, component: str) -> bool:
    if component == "predictor" and "matchExpressions" in selector:
        return True
    return selector == {} or selector.get("matchLabels", {}).get(COMPONENT) == component


def named(peer: Object) -> str:
    if block := peer.get("ipBlock"):
        cidr = ip_network(block["cidr"])
        if cidr.prefixlen == 0:
            missed = [
                each
                for each in PRIVATE
                if each.version == cidr.version and str(each) not in block.get("except", [])
            ]
            return "anywhere" if missed else "internet"
        return (
            "private"
            if any(each.version == cidr.version and cidr == each for each in PRIVATE)
            else str(cidr)
        )
    selector = peer.get("podSelector", {})
    labels = selector.get("matchLabels", {})
    if "matchExpressions" in selector:
        return "predictor"
    return str(labels.get(COMPONENT) or labels.get("k8s-app") or "anywhere")


PRIVATE = [
    ip_network(each)
    for each in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]


@pytest.mark.parametrize("component", EGRESS)
def test_a_component_connects_to_its_neighbours_and_to_nothing_else(
    everything: Rendering, component: str
) -> None:
    assert destinations(everything, component) == EGRESS[component] | DNS


def test_every_component_is_in_the_table_of_egress(everything: Rendering) -> None:
    assert {
        each.labels[COMPONENT] for each in everything.pods if COMPONENT in each.labels
    } <= EGRESS.keys()


def test_no_rule_opens_all_addresses(each: Rendering) -> None:
    policies = each.of("NetworkPolicy").values()
    rules = [rule for policy in policies for rule in policy["spec"].get("egress", [])]
    assert all(rule.get("to") for rule in rules)
    assert not any(named(peer) == "anywhere" for rule in rules for peer in rule["to"])


def test_only_the_worker_sends_webhooks_and_only_to_public_addresses() -> None:
    opened = render(None, "networkPolicy.internetFrom={worker}")
    assert "internet:443" in destinations(opened, "worker")
    assert not any(
        "internet" in each
        for name in EGRESS.keys() - {"worker"}
        for each in destinations(opened, name)
    )


@pytest.mark.parametrize(
    "setting",
    ["networkPolicy.apiServer.to=null", "networkPolicy.egress.gateway[0].ports[0].port=443"],
)
def test_a_rule_without_addresses_is_rejected(setting: str) -> None:
    with pytest.raises(Refused, match=r"networkPolicy/.*\bto\b"):
        render(None, setting)


def test_images_of_other_projects_are_pinned_by_digest(
    default: Rendering, everything: Rendering
) -> None:
    valkey = container(everything, "Deployment slipway-redis", "redis")["image"]
    external = [
        one["image"]
        for each in default.pods
        for one in each.containers
        if not one["image"].startswith("slipway/")
    ]
    assert valkey.startswith("valkey/valkey:8.")
    assert external
    assert all(
        re.fullmatch(r"[^@]+:[^@]+@sha256:[0-9a-f]{64}", image) for image in [valkey, *external]
    )


def requested(one: Object) -> tuple[float, float]:
    found = one["resources"]["requests"]
    return quantity(found["cpu"]), quantity(found["memory"])


def test_the_whole_release_fits_a_node_of_two_cpus(default: Rendering) -> None:
    """Sum the requests with two predictors and a running Job; kube-system requests 0.95 CPUs."""
    cpu = memory = 0.0
    for owner, name, count in (
        ("Deployment slipway-gateway", "gateway", 2),
        ("Deployment slipway-worker", "worker", 1),
        ("Deployment slipway-controller", "controller", 1),
        ("Deployment slipway-mlflow", "mlflow", 1),
        ("Deployment slipway-identity", "identity", 1),
        ("StatefulSet slipway-postgresql", "postgresql", 1),
        ("ClusterServingRuntime slipway-mlserver", "kserve-container", 2),
        ("CronJob train", "job", 1),
    ):
        each = requested(container(default, owner, name))
        cpu, memory = cpu + count * each[0], memory + count * each[1]
    assert cpu <= 1.0
    assert memory <= 3.5 * 2**30


def test_sales_are_loaded_in_the_time_zone_of_the_stores_and_only_if_enabled(
    default: Rendering, everything: Rendering
) -> None:
    template, nightly = (
        rendering.of("CronJob")["etl"]["spec"] for rendering in (default, everything)
    )
    assert (template["suspend"], template["timeZone"]) == (True, "Etc/UTC")
    assert (nightly["suspend"], nightly["timeZone"], nightly["schedule"]) == (
        False,
        "Europe/Berlin",
        "15 5 * * 1-6",
    )
    assert nightly["concurrencyPolicy"] == "Forbid"
    job = container(everything, "CronJob etl", "job")
    assert job["args"] == ["etl", "--time-zone", "Europe/Berlin", "--file", "/data/sales.csv"]
    assert environment(job)["SLIPWAY_DATABASE_URL"].endswith("/slipway")


def test_there_is_an_alert_for_features_that_are_too_old(everything: Rendering) -> None:
    rules = next(iter(everything.of("PrometheusRule").values()))["spec"]["groups"]
    found = {
        rule["alert"]: rule["expr"] for group in rules for rule in group["rules"] if "alert" in rule
    }
    assert found["SlipwayFeaturesOld"].endswith("> 187200")
    assert "max by (features) (slipway_features_age_seconds{" in found["SlipwayFeaturesOld"]


def test_there_are_alerts_for_volumes_and_storage_that_are_nearly_full(
    everything: Rendering, default: Rendering
) -> None:
    rules = next(iter(everything.of("PrometheusRule").values()))["spec"]["groups"]
    found = {
        rule["alert"]: rule["expr"] for group in rules for rule in group["rules"] if "alert" in rule
    }
    assert "data-slipway-postgresql-0|slipway-mlflow" in found["SlipwayVolumeFull"]
    assert found["SlipwayVolumeFull"].strip().endswith("> 0.85")
    assert "slipway_storage_limit_bytes" in found["SlipwayStorageFull"]
    given = environment(container(default, "Deployment slipway-gateway", "gateway"))
    assert (
        int(given["SLIPWAY_STORAGE_PER_CALLER"]) < int(given["SLIPWAY_STORAGE_LIMIT"]) < 8 * 2**30
    ), "less than the volume"
