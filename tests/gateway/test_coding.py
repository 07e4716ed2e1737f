"""Compression of request and response bodies with gzip or deflate."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import httpx
import orjson
import pytest
from slipway_gateway.http.coding import preferred

from tests.gateway.environment import Client, Process, v2_request
from tests.gateway.predictor import ROW
from tests.gateway.test_bodies import MEGABYTE

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
INFER, NAMED = "/v2/models/heart/infer", "/v1/models/heart/predictions"


def rows(count: int) -> bytes:
    request = v2_request()
    for tensor in request["inputs"]:
        tensor["shape"], tensor["data"] = [count], tensor["data"] * count
    return orjson.dumps(request)


def ask(
    client: Client, body: bytes | Iterator[bytes], accept: str = "identity", **headers: str
) -> httpx.Response:
    token = {
        "authorization": f"Bearer {client.environment.issuer.token()}",
        "content-type": "application/json",
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.http.post(
        INFER, content=body, headers={**token, "accept-encoding": accept, **given}
    )


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("count", [1, 20_000], ids=["small", "streamed"])
def test_a_compressed_request_gets_the_same_response(
    client: Client, coding: str, count: int
) -> None:
    plain, packed = (
        ask(client, rows(count)),
        ask(client, PACK[coding](rows(count)), content_encoding=coding),
    )
    assert (packed.status_code, packed.content) == (200, plain.content)


def test_a_compressed_request_may_arrive_in_any_pieces(client: Client) -> None:
    packed = gzip.compress(rows(1))
    answer = ask(
        client, (packed[at : at + 1] for at in range(len(packed))), content_encoding="gzip"
    )
    assert answer.status_code == 200


def test_the_log_contains_the_decompressed_body(client: Client) -> None:
    answer = ask(client, gzip.compress(rows(1)), content_encoding="gzip")
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["request"] == orjson.loads(rows(1))
    assert receipt["response"] == answer.json()


def test_named_features_may_be_compressed(client: Client) -> None:
    body = gzip.compress(orjson.dumps({"instances": [ROW]}))
    assert client.post(NAMED, body, content_encoding="gzip").status_code == 200


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("count", [100, 20_000], ids=["whole", "streamed"])
def test_a_long_response_is_compressed_if_the_caller_accepts_it(
    client: Client, coding: str, count: int
) -> None:
    plain, packed = ask(client, rows(count)), ask(client, rows(count), accept=coding)
    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == (
        coding,
        "accept-encoding",
    )
    assert packed.json()["outputs"] == plain.json()["outputs"]
    assert packed.num_bytes_downloaded < len(plain.content) / 2


def test_a_short_response_is_not_compressed(client: Client) -> None:
    assert "content-encoding" not in ask(client, rows(1), accept="gzip").headers


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip, deflate, br", b"gzip"),
        (b"deflate", b"deflate"),
        (b"GZIP;q=0.5, deflate;q=0.1", b"gzip"),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q=0.000", None),
        (b"*", b"gzip"),
        (b"*;q=0", None),
        (b"gzip;q=high", b"gzip"),
        (b"br, zstd", None),
        (b"identity", None),
        (b",;,", None),
    ],
)
def test_the_coding_is_accepted_by_the_caller(accepted: bytes, coding: bytes | None) -> None:
    assert preferred(accepted) == coding


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no gzip at all", "the body is not gzip"),
        (gzip.compress(rows(1))[:-9], "ends before"),
        (gzip.compress(rows(1)) + b"more", "continues after the end"),
        (gzip.compress(rows(1))[:20] + b"\0" * 40, "the body is not gzip"),
        (b"", "ends before"),
    ],
    ids=["plain", "cut off", "with a tail", "broken", "empty"],
)
def test_invalid_compression_is_a_client_error(client: Client, body: bytes, text: str) -> None:
    answer = ask(client, body, content_encoding="gzip")
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_an_unsupported_coding_gets_415_with_the_supported_ones(client: Client) -> None:
    for path in (INFER, NAMED):
        answer = client.post(path, b"{}", content_encoding="br")
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize("path", [INFER, NAMED])
def test_a_decompression_bomb_of_256_megabytes_gets_413_and_little_memory(
    process: Process, path: str
) -> None:
    stream = zlib.compressobj(1, wbits=31)
    bomb = b"".join([*(stream.compress(b" " * MEGABYTE) for _ in range(256)), stream.flush()])
    assert len(bomb) < 2 * MEGABYTE
    client = process.client
    assert client.infer("heart").status_code == 200
    before = process.peak_memory()
    assert client.post(path, bomb, content_encoding="gzip").status_code == 413
    # The control API holds a body up to the limit of 16 MiB, in the pieces and as a whole.
    assert process.peak_memory() - before < (48 if path == NAMED else 12) * MEGABYTE
    assert client.infer("heart").status_code == 200


@pytest.mark.slow
def test_compressed_bytes_are_limited_too(client: Client) -> None:
    """Send empty deflate blocks, which decompress to nothing without end."""
    head, empty = zlib.compress(b"")[:2], b"\0\0\0\xff\xff" * 2**16
    answer = ask(client, iter([head, *[empty] * 60]), content_encoding="deflate")
    assert answer.status_code == 413
