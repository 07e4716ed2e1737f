"""The checks for any running server.

``V2_URL=… V2_MODEL=… V2_VERSION=… V2_EXAMPLE=request.json [V2_TOKEN=…]``.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conformance.checks import CHECKS, Check
from tests.conformance.served import Served

if "V2_URL" not in os.environ:
    pytest.skip("V2_URL is not set", allow_module_level=True)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    headers = {"accept-encoding": "identity"}
    if token := os.environ.get("V2_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    example = json.loads(Path(os.environ["V2_EXAMPLE"]).read_bytes())
    with httpx.Client(base_url=os.environ["V2_URL"], headers=headers, timeout=30) as client:
        yield Served(client, os.environ["V2_MODEL"], os.environ["V2_VERSION"], example)


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=sentence) for sentence, check in CHECKS.items()]
)
def test_the_server_conforms_to_the_protocol(check: Check, served: Served) -> None:
    check(served)
