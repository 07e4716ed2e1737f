"""Worst-case bodies of 1 MiB: gateway and predictor need little memory and stay responsive."""

import gzip
import http.client
import io
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import pytest
from PIL import Image
from slipway_gateway.access.rules import Rule
from slipway_gateway.edge.dispatch import WITH_BODY

from tests.gateway.access import WITHOUT_SCIM
from tests.gateway.environment import Environment, Process, running
from tests.gateway.predictor import DIGEST
from tests.support.predictor_process import Predictor, started
from tests.support.waiting import SECONDS

SERVING = Path(__file__).parents[2] / ".venv-serving/bin"
SIZE = 2**20
SMALL = 60 * 2**10
"""A size within the limit of control routes."""
MEMORY = 64 * 2**20
"""Bytes that one request may take."""
RETAINED = 4 * MEMORY
"""Bytes that the allocators' arenas, one for each thread, may retain of all requests of a test."""
BLOCKED = 0.05
TRIES = 4
"""Number of attempts; the best one counts, because other processes only add time."""

ROUTES = [rule for rule in WITHOUT_SCIM if rule.method in WITH_BODY]
NAMES = {"model": "heart", "version": "3"}


def repeated(item: bytes, size: int) -> bytes:
    return (item + b",") * (size // (len(item) + 1) - 10) + item


ITEMS = [
    b"0",
    b"0.1",
    b'"a"',
    b"[]",
    b"{}",
    b'{"a":0}',
    b"[" * 100 + b"]" * 100,
    b'{"a":' * 100 + b"0" + b"}" * 100,
]
ROW = orjson.dumps({"pixels": [1.5] * 64, "age": 63})


def objects(fields: Sequence[str], size: int) -> Iterator[bytes]:
    """Yield JSON bodies with many equal items in each field of the body."""
    for item in ITEMS:
        text = repeated(item, size // len(fields))
        yield b"{" + b",".join(b'"%b":[%b]' % (field.encode(), text) for field in fields) + b"}"
    yield b"{" + b",".join(b'"%x":0' % number for number in range(size // 10)) + b"}"
    yield (
        b'{"instances":[{' + b",".join(b'"%x":0' % number for number in range(size // 10)) + b"}]}"
    )
    yield b'{"inputs":[{' + b",".join(b'"%x":0' % number for number in range(size // 10)) + b"}]}"
    yield (
        b'{"inputs":[{"name":"age","datatype":"FP32","shape":[1],"data":['
        + repeated(b'"a"', size)
        + b"]}]}"
    )
    yield b'{"comment":"' + b"," * size + b'"}'
    yield b'{"label":' + b"9" * size + b"}"
    yield b'"' + b"\\u00e9" * (size // 6) + b'"'


def rows(size: int) -> Iterator[bytes]:
    """Yield valid rows, and rows of which the last one is invalid."""
    yield b'{"instances":[' + repeated(ROW, size) + b"]}"
    yield b'{"instances":[' + repeated(ROW, size) + b',{"age":1}]}'
    yield b'{"instances":[' + repeated(b'{"age":1}', size) + b"]}"


def tensors(size: int) -> Iterator[bytes]:
    """Yield valid tensors, flat and nested, and tensors with an invalid last value."""
    count = size // 65 // 4
    text = b'{"inputs":[{"name":"pixels","shape":[%d,64],"datatype":"FP32","data":[%b]},%b]}'
    ages = b'{"name":"age","shape":[%d],"datatype":"FP32","data":[%b]}' % (
        count,
        b"63," * (count - 1) + b"63",
    )
    for value in (b"1.5", b'"a"'):
        yield text % (count, b"1.5," * (64 * count - 1) + value, ages)
    nested = repeated(b"[1]", size)
    yield b'{"inputs":[{"name":"age","shape":[%d,1],"datatype":"FP32","data":[%b]}]}' % (
        nested.count(b"["),
        nested,
    )


def binary(fields: Sequence[str], size: int) -> Iterator[tuple[bytes, int]]:
    """Yield bodies with raw tensors, with the length of their JSON."""
    for datatype, count, width in (
        ("UINT8", size, 1),
        ("FP32", size // 4, 4),
        ("BYTES", size // 4, 4),
    ):
        head = {
            "name": "age",
            "datatype": datatype,
            "shape": [count],
            "parameters": {"binary_data_size": count * width},
        }
        text = orjson.dumps({"inputs": [head], "parameters": {"binary_data_output": True}})
        yield text + b"\0" * count * width, len(text)
    for body in objects(fields, size):
        yield body, len(body)


def forms(size: int) -> Iterator[bytes]:
    """Yield forms with many parts, long headers, long fields, and images."""

    def part(name: bytes, content: bytes, more: bytes = b"", file: bool = False) -> bytes:
        end = b'; filename="a.png"' if file else b""
        return b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n%b\r\n%b\r\n' % (
            name,
            end,
            more,
            content,
        )

    end = b"--x--\r\n"
    noise = io.BytesIO()
    Image.effect_noise((250, 250), 90).save(noise, "PNG")
    image = part(b"pixels", noise.getvalue(), file=True)
    yield b"".join(part(b"a", b"1") for _ in range(size // 60)) + end
    yield image + part(b"age", b"1", b"X-A: " + b"a" * size + b"\r\n") + end
    yield image + part(b"age", b"1", b"X-A: b\r\n" * (size // 8)) + end
    yield image + part(b"age", b"[" + repeated(b"[]", size) + b"]") + end
    yield image + part(b"age", b"[" + repeated(b"0", size) + b"]") + end
    yield image + part(b"age", b"\r\n--" * (size // 4)) + end
    yield image * (size // len(image.ljust(1))) + part(b"age", b"1") + end
    yield b"\r\n" * (size // 2) + image


@dataclass(frozen=True)
class Sending:
    """A request to a route."""

    rule: Rule
    body: bytes
    headers: dict[str, str]

    @classmethod
    def packed(cls, rule: Rule, body: bytes, **headers: str) -> Self:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if rule.name == "batch":  # uploaded files are not decompressed
            return cls(rule, body, {"content-type": "application/json", **named})
        return cls(
            rule,
            gzip.compress(body, 1),
            {"content-type": "application/json", "content-encoding": "gzip", **named},
        )

    def send(self, process: Process, token: str) -> httpx.Response:
        unknown = dict.fromkeys(
            self.rule.pattern.groupindex, "00000000-0000-7000-8000-000000000000"
        )
        path = self.rule.path.format_map({**unknown, **NAMES})
        headers = {"authorization": f"Bearer {token}", **self.headers}
        return httpx.request(
            self.rule.method,
            process.client.url + path,
            content=self.body,
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
        )


def sendings(rule: Rule, fields: Sequence[str]) -> Iterator[Sending]:
    packed = partial(Sending.packed, rule)
    form = {"content_type": "multipart/form-data; boundary=x"}
    if rule.name not in ("predict", "predict-version"):
        yield from map(packed, [*objects(fields, SMALL), b"{" + b" " * SIZE + b"}"])
        yield from (packed(body, **form) for body in forms(SIZE) if rule.name == "batch")
        return
    yield from map(packed, objects(fields, SIZE))
    if rule.path.startswith("/v2"):
        yield from map(packed, tensors(SIZE))
        yield from (
            packed(body, inference_header_content_length=str(length))
            for body, length in binary(fields, SIZE)
        )
    else:
        yield from map(packed, rows(SIZE))
        yield from (packed(body, **form) for body in forms(SIZE))
        later = SIZE - 2**16  # SLIPWAY_TASK_BODY_LIMIT is 1 MiB
        yield from (
            packed(body, prefer="respond-async") for body in [*rows(later), *objects(fields, later)]
        )


def fields_of(rule: Rule, document: dict[str, Any]) -> list[str]:
    """Return the fields of a route's JSON body by the OpenAPI document or the V2 protocol."""
    operation = document["paths"].get(rule.path, {}).get(rule.method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {"inputs": {}, "outputs": {}}))


class Watch:
    """The longest time that a process blocks, measured by liveness requests on one connection.

    Only the processor time of the process during a response counts: on a busy machine the rest is
    the wait for a processor.
    """

    def __init__(self, pid: int, url: str, path: str) -> None:
        self.worst = 0.0
        self._pid = pid
        self._path = path
        self._client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SECONDS)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._ask()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _watch(self) -> None:
        while not self._ending.wait(0.002):
            worked, start = self._worked(), time.monotonic()
            self._ask()
            self.worst = max(self.worst, min(time.monotonic() - start, self._worked() - worked))

    def _ask(self) -> None:
        self._client.request("GET", self._path)
        assert self._client.getresponse().read() is not None

    def _worked(self) -> float:
        """Return the processor time of all threads in seconds."""
        tasks = Path(f"/proc/{self._pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9


def memory(pid: int, *, reset: bool = False) -> int:
    """Return the peak resident memory in bytes since the last reset (``clear_refs`` of proc(5))."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """Yield a real predictor in its own virtual environment."""
    folder = tmp_path_factory.mktemp("scans")
    command: list[str | Path] = [
        SERVING / "python",
        "-W",
        "ignore",
        "-m",
        "tests.serving.scans",
        folder / "artifact",
        f"{DIGEST[:-4]}0003",
    ]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    with started(folder / "artifact", folder / "log") as predictor:
        yield predictor


@pytest.fixture(scope="module")
def process(new_environment: Callable[[], Environment], real: Predictor) -> Iterator[Process]:
    """Yield a gateway for the real predictor."""
    environment = new_environment()
    environment.model("heart", ("3", 100), url=str(real.client.base_url).rstrip("/"))
    with running(environment, upstream_timeout_seconds=60) as process:
        yield process


@pytest.fixture(scope="module")
def token(process: Process) -> str:
    return process.client.environment.issuer.token("root", "admin", "service")


@pytest.fixture(scope="module")
def pids(process: Process, real: Predictor, token: str) -> tuple[int, int]:
    """Process ids of gateway and predictor after valid requests of 128 KiB to warm them up."""
    v2 = ROUTES[0]
    v1 = next(rule for rule in ROUTES if rule.name == "predict" and rule.path.startswith("/v1"))
    for rule, body in ((v1, next(rows(2**17))), (v2, next(tensors(2**17)))):
        answer = Sending.packed(rule, body).send(process, token)
        assert answer.status_code == 200, answer.text
    return process.process.pid, real.process.pid


@pytest.mark.slow
@pytest.mark.parametrize("rule", ROUTES, ids=lambda rule: f"{rule.method} {rule.path}")
def test_the_worst_megabyte_of_a_route_takes_little_memory_and_does_not_block_others(
    process: Process, real: Predictor, pids: tuple[int, int], token: str, rule: Rule
) -> None:
    fields = fields_of(rule, process.client.get("/v1/openapi.json").json())
    at_first = {pid: memory(pid, reset=True) for pid in pids}
    for number, sending in enumerate(sendings(rule, fields)):
        blocked, grown = [BLOCKED], dict.fromkeys(pids, 0)
        while len(blocked) <= TRIES and blocked[-1] >= BLOCKED:
            before = {pid: memory(pid, reset=True) for pid in pids}
            with (
                Watch(process.process.pid, process.client.url, "/livez") as gateway,
                Watch(
                    real.process.pid, str(real.client.base_url).rstrip("/"), "/v2/health/live"
                ) as served,
            ):
                answer = sending.send(process, token)
            blocked.append(max(gateway.worst, served.worst))
            grown = {pid: max(grown[pid], memory(pid) - at) for pid, at in before.items()}
        message = (
            f"{number}: {answer.status_code} {answer.text[:200]}; blocked {blocked[1:]}, grown "
            f"{grown}"
        )
        assert answer.status_code not in (429, 500, 504), message
        assert min(blocked[1:]) < BLOCKED, message
        assert max(grown.values()) < MEMORY, message
        assert all(memory(pid) - at < RETAINED for pid, at in at_first.items()), message


@pytest.mark.slow
def test_the_routes_with_a_body_are_found() -> None:
    assert {"predict", "predict-version", "feedback", "train", "administer"} <= {
        rule.name for rule in ROUTES
    }
