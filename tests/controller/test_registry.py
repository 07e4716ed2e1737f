"""The registry's client: what a response of MLflow means to a Model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from slipway_contract.registry import PROMOTION, Tag
from slipway_controller.registry import RegisteredVersion, Registry, RegistryError, Unpinned

from tests.support.http_server import http_server
from tests.support.waiting import SECONDS

DIGEST = "sha256:" + "ab" * 32


def by_alias(status: int, content: bytes) -> RegisteredVersion:
    with registry(status, content) as found:
        return found.by_alias("heart", "champion")


@contextmanager
def registry(status: int, content: bytes) -> Iterator[Registry]:
    with (
        http_server(lambda *_: (status, content)) as url,
        httpx.Client(base_url=url, timeout=SECONDS) as client,
    ):
        yield Registry(client)


def version(**fields: object) -> bytes:
    return json.dumps({"model_version": {"version": "3", **fields}}).encode()


def test_the_version_of_an_alias_has_the_digest_of_its_tag() -> None:
    tags = [{"key": "empty"}, {"key": Tag.DIGEST, "value": DIGEST}]
    found = by_alias(200, version(run_id="", tags=tags, name="heart", source="models:/m-1"))
    assert found == RegisteredVersion("heart", "3", DIGEST, promoted=False)


@pytest.mark.parametrize(
    ("value", "promoted"),
    [
        ('{"alias": "champion", "gate": "passed"}', True),
        ('{"alias": "challenger", "gate": "passed"}', False),
        ("no JSON", False),
        ("[]", False),
        ("", False),
    ],
)
def test_a_promotion_of_the_alias_is_found_in_the_tags(value: str, promoted: bool) -> None:
    tags = [
        {"key": Tag.DIGEST, "value": DIGEST},
        {"key": f"{PROMOTION}2026-01-01T12:00:00.000000Z", "value": value},
    ]
    assert by_alias(200, version(tags=tags)).promoted is promoted


def test_a_version_without_a_digest_is_reported_by_its_number() -> None:
    with pytest.raises(Unpinned, match=r"version 3 of heart has no tag slipway\.digest"):
        by_alias(200, version())


@pytest.mark.parametrize(
    ("status", "content", "reason", "message"),
    [
        (404, b"<html>", "RegistryUnreachable", "MLflow answered 404"),
        (
            404,
            b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}',
            "AliasNotFound",
            "the registry has no name heart, alias champion",
        ),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE"}', "AliasNotFound", "has no name heart"),
        (403, b"", "AliasNotFound", "no heart that this account may read"),
        (503, b"", "RegistryUnreachable", "MLflow answered 503"),
        (200, b"<html>", "RegistryUnreachable", "returned no version: Expecting value"),
        (200, b"{}", "RegistryUnreachable", "returned no version: model_version: "),
        (200, version(tags=[7]), "RegistryUnreachable", "returned no version: model_version.tags"),
    ],
)
def test_a_response_without_a_version_has_a_reason(
    status: int, content: bytes, reason: str, message: str
) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        by_alias(status, content)
    assert caught.value.reason == reason


def test_a_version_that_does_not_exist_is_reported_by_its_number() -> None:
    with (
        registry(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}') as found,
        pytest.raises(RegistryError, match="no name heart, version 7: name a version") as caught,
    ):
        found.by_number("heart", "7", "champion")
    assert caught.value.reason == "RollbackFailed"
