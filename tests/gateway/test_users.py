"""Users: the life of an account at the bundled provider, and what the gateway makes of it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.gateway.house import House, Visitor
from tests.gateway.provider import Person, Provider


@pytest.fixture(scope="module")
def home(new_house: Callable[[], House]) -> House:
    house = new_house()
    house.model("heart", ("3", 100))
    return house


@pytest.fixture(scope="module")
def city(home: House, provider: Provider) -> Iterator[Visitor]:
    """A gateway that trusts the provider, and looks at its accounts often."""
    with home.gateway(**provider.settings, users_seconds=0.5) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def admin(provider: Provider) -> str:
    return provider.token("admin")


def call(visitor: Visitor, method: str, path: str, token: str, content: Any = None) -> httpx.Response:
    return visitor.client.request(method, path, json=content, headers={"authorization": f"Bearer {token}"})


def test_an_account_is_made_used_reset_changed_and_deleted(city: Visitor, provider: Provider, admin: str) -> None:
    ada = Person(provider, "ada")
    ada.register()
    token = ada.token()
    assert city.get("/v1/me", token).json() | {"expires": ""} == {
        "subject": "ada",
        "name": "Ada",
        "groups": [],
        "roles": [],
        "expires": "",
    }
    assert city.infer("heart", token).status_code == 403  # whoever registers may nothing yet
    assert call(city, "PUT", "/v1/groups/user/members/ada", admin).status_code == 204
    token = ada.token()
    answer = city.infer("heart", token)
    assert answer.status_code == 200

    former = ada.password
    ada.forget_password()
    assert not ada.may_sign_in(former)
    former = ada.password
    ada.change_password()
    assert not ada.may_sign_in(former)
    assert ada.may_sign_in(ada.password)

    assert call(city, "DELETE", "/v1/me", token).status_code == 204
    refused = city.get("/v1/me", token)
    assert (refused.status_code, refused.json()["detail"]) == (401, "the account does not exist any more")
    assert not ada.may_sign_in(ada.password)
    assert call(city, "GET", "/v1/users/ada", admin).status_code == 404
