"""Revoked permissions take effect on every gateway immediately."""

import httpx

from tests.e2e.conftest import KindStack, answers
from tests.support.processes import START_SECONDS
from tests.support.waiting import SECONDS, wait_for

EVERY_MODEL = {"grantee": "group:user", "models": "*", "policy": "default"}


def statuses(stack: KindStack) -> set[int]:
    return {answer.status_code for answer in answers(stack)}


def test_a_revoked_grant_has_no_effect_on_both_gateways(stack: KindStack) -> None:
    with stack.client("admin") as admin:
        grants = admin.get("/v1/grants").raise_for_status().json()["grants"]
        given = [
            grant["grantId"]
            for grant in grants
            if (grant["grantee"], grant["models"]) == ("group:user", "*")
        ]
        assert statuses(stack) == {200}
        try:
            for grant in given:
                admin.delete(f"/v1/grants/{grant}").raise_for_status()
            wait_for("the revocation", lambda: statuses(stack) == {403})
        finally:
            admin.post("/v1/grants", json=EVERY_MODEL).raise_for_status()
        wait_for("the grant to be back", lambda: statuses(stack) == {200}, START_SECONDS)
        changes = [entry["action"] for entry in admin.get("/v1/audit").json()["entries"][:2]]
    assert len(changes) == 2


def test_anonymous_callers_are_rejected_and_forged_ids_are_unknown(
    stack: KindStack, user: httpx.Client
) -> None:
    assert httpx.get(f"{stack.url}/v1/models", timeout=SECONDS).status_code == 401
    assert user.get("/v1/predictions/00000000-0000-7000-8000-000000000000").status_code == 404
    assert user.get("/v1/tasks/00000000-0000-7000-8000-000000000000").status_code == 404
    assert user.get("/v1/grants").status_code == 403
