"""Batches with ``uri``: the gateway downloads the file from a local https server."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.gateway.environment import Client, Environment
from tests.gateway.test_batches import TEMPLATE, upload
from tests.support.asgi_server import AsgiServer, ServerContext
from tests.support.waiting import wait_for

LIMIT = 200_000
CSV = b"age,chol,thal\n63,233,6\n" * 100


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"age": [63], "chol": [233.0], "thal": [6]}), file)
    return file.getvalue()


def certificate(folder: Path) -> Path:
    """Provide a PEM file with a key and its self-signed certificate for ``localhost``."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    signed = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
    )
    pem = signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "localhost.pem"
    path.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, *plain))
    return path


class Source(ServerContext):
    """An https server of files.

    ``/endless`` never ends, ``/cut`` ends too early, and ``/moved`` redirects.
    """

    def __init__(self, pem: Path) -> None:
        self.files = {
            "/rows.csv": CSV,
            "/rows.parquet": parquet(),
            "/empty": b"",
            "/image": b"\x89PNG\0\0",
        }
        self.asked: list[tuple[str, dict[bytes, bytes]]] = []
        self.left = False
        self.server = AsgiServer(self._answer, certificate=pem)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.asked.append((path, dict(scope["headers"])))
        content = self.files.get(path, b"")
        status = 302 if path == "/moved" else 404 if path == "/lost" else 200
        headers = [(b"location", b"/rows.csv")] if path == "/moved" else []
        headers += [(b"content-length", b"99999")] if path == "/cut" else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if path == "/endless":
            await self._pour(receive, send)
        await send({"type": "http.response.body", "body": CSV if path == "/cut" else content})

    async def _pour(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        over = asyncio.ensure_future(receive())
        while not over.done():
            await send({"type": "http.response.body", "body": CSV, "more_body": True})
            await asyncio.sleep(0)
        self.left = over.result()["type"] == "http.disconnect"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    pem = certificate(tmp_path_factory.mktemp("source"))
    with pytest.MonkeyPatch.context() as patch, Source(pem) as source:
        patch.setenv("SSL_CERT_FILE", str(pem))
        yield source


@pytest.fixture(scope="module")
def works(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.cluster.apply(TEMPLATE)
    return environment


@pytest.fixture(scope="module")
def client(works: Environment) -> Iterator[Client]:
    with works.gateway(batch_limit=LIMIT, batch_hosts=["localhost"]) as client:
        yield client


def ask(client: Client, url: str, key: str | None = None) -> httpx.Response:
    return client.post(
        "/v1/models/heart/batches", {"uri": url}, **({"Idempotency_Key": key} if key else {})
    )


def stored(environment: Environment, batch_id: str) -> tuple[str, str, bytes]:
    """Return format, digest and content of a batch's file."""
    pieces = (
        "SELECT content FROM batch_files WHERE batch_id = %s AND kind = 'input' ORDER BY number"
    )
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(
            "SELECT format, sha256 FROM batches WHERE batch_id = %s", [batch_id]
        ).fetchone()
        content = b"".join(piece for (piece,) in connection.execute(pieces, [batch_id]))
    assert row
    return row[0], row[1], content


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_downloaded_file_is_stored_unchanged_with_its_digest(
    client: Client, works: Environment, source: Source, kind: str
) -> None:
    answer = ask(client, f"{source.server.url}/rows.{kind}")
    assert answer.status_code == 202, answer.text
    content = source.files[f"/rows.{kind}"]
    assert stored(works, answer.json()["batchId"]) == (
        kind,
        hashlib.sha256(content).hexdigest(),
        content,
    )
    assert client.get(answer.headers["location"]).json()["state"] == "queued"
    path, headers = source.asked[-1]
    assert path == f"/rows.{kind}"
    assert not headers.keys() & {b"authorization", b"cookie", b"referer"}, (
        "the caller's token is not sent to the source"
    )


def test_a_downloaded_file_gives_the_same_batch_as_an_uploaded_one(
    client: Client, source: Source
) -> None:
    fetched = ask(client, f"{source.server.url}/rows.csv", key="same")
    assert upload(client, CSV, key="same").json()["batchId"] == fetched.json()["batchId"]
    other = ask(client, f"{source.server.url}/rows.parquet", key="same")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/endless", 413, f"larger than {LIMIT}"),
        ("/empty", 422, "is empty"),
        ("/image", 415, "neither Parquet nor CSV"),
        ("/lost", 422, "localhost answered 404"),
        ("/moved", 422, "localhost answered 302"),
        ("/cut", 422, "localhost cannot be reached"),
    ],
)
def test_an_incomplete_or_too_large_file_is_rejected(
    client: Client, works: Environment, source: Source, path: str, status: int, text: str
) -> None:
    before, asked = _batches(works), len(source.asked)
    answer = ask(client, source.server.url + path)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert [each for each, _ in source.asked[asked:]] == [path], "a redirect is not followed"
    assert _batches(works) == before
    if path == "/endless":
        wait_for("the end of the download", lambda: source.left)


def test_a_source_with_an_untrusted_certificate_is_rejected(
    client: Client, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    asked = len(source.asked)
    answer = ask(client, f"{source.server.url}/rows.csv")
    assert (answer.status_code, "localhost cannot be reached" in answer.text) == (422, True)
    assert len(source.asked) == asked


def test_a_source_must_be_an_allowed_host_and_use_https(client: Client, source: Source) -> None:
    url, asked = source.server.url, len(source.asked)
    for changed, text in [
        (url.replace("https", "http"), "not https from one of localhost"),
        ("https://127.0.0.1/x", "not a public"),
    ]:
        answer = ask(client, changed)
        assert (answer.status_code, text in answer.text) == (422, True), answer.text
    assert len(source.asked) == asked


def _batches(environment: Environment) -> int:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM batches").fetchone()
    assert row
    return int(row[0])
