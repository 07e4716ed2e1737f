"""Large bodies of any kind do not increase the memory of the process."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.gateway.environment import Client, Environment, Process

MEGABYTE = 2**20


def _megabytes(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"1" * MEGABYTE


@pytest.mark.parametrize("path", ["/v2/models/heart/infer", "/v1/models/heart/predictions"])
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_a_body_of_100_megabytes_gets_413(process: Process, path: str, chunked: bool) -> None:
    client = process.client
    assert client.infer("heart").status_code == 200
    before = process.peak_memory()
    headers = {
        "authorization": f"Bearer {client.environment.issuer.token()}",
        "content-type": "application/json",
    }
    if not chunked:
        headers["content-length"] = str(100 * MEGABYTE)
    answer = client.http.post(path, content=_megabytes(100), headers=headers)
    assert answer.status_code == 413
    assert str(16 * MEGABYTE) in answer.text
    # The control API parses its bodies, so it may hold one up to the limit, in pieces and as a
    # whole.
    allowed = 48 * MEGABYTE if path.startswith("/v1") and chunked else 12 * MEGABYTE
    assert process.peak_memory() - before < allowed
    assert client.infer("heart").status_code == 200


def test_the_limit_is_configurable(new_environment: Callable[[], Environment]) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with environment.gateway(body_limit=1000) as client:
        for path in ("/v2/models/heart/infer", "/v1/models/heart/predictions"):
            assert client.post(path, b" " * 1001).status_code == 413
            assert (
                client.http.post(
                    path, content=iter([b" " * 600] * 2), headers=_json(client)
                ).status_code
                == 413
            )


def test_a_caller_that_disconnects_during_a_body_does_not_affect_others(client: Client) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b" " * 200_000
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        client.http.post("/v2/models/heart/infer", content=breaks_off(), headers=_json(client))
    answer: httpx.Response = client.infer("heart")
    assert answer.status_code == 200


def _json(client: Client) -> dict[str, str]:
    return {
        "authorization": f"Bearer {client.environment.issuer.token()}",
        "content-type": "application/json",
    }
