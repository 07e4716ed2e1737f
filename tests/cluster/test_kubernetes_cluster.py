"""The Kubernetes client with a misbehaving API server, which is a small HTTP server."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from itertools import islice
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client
from slipway_cluster import MODEL, ClusterError, Conflict, Invalid, Manifest, NotFound
from slipway_cluster.kubernetes_cluster import KubernetesCluster

from tests.cluster.manifests import model
from tests.support.http_server import Handler, handler_server
from tests.support.waiting import SECONDS


class ApiServer:
    """Returns given listings and watches in order, and repeats the last listing."""

    def __init__(self) -> None:
        self.listings: list[tuple[int, Manifest]] = []
        self.watches: list[list[Manifest] | None] = []
        """Events of each watch; None breaks the connection."""
        self.versions: list[str] = []
        """Resource versions at the start of each watch."""
        outer = self

        class Api(Handler):
            def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
                query = {
                    key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()
                }
                if "watch" in query:
                    outer._watch(self, query["resourceVersion"])
                else:
                    outer._list(self)

            do_PATCH = do_POST = do_GET  # noqa: N815 - the names that the base class calls

        self._stack = ExitStack()
        self.url = self._stack.enter_context(handler_server(Api))

    def close(self) -> None:
        self._stack.close()

    def _list(self, handler: BaseHTTPRequestHandler) -> None:
        status, body = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _watch(self, handler: BaseHTTPRequestHandler, version: str) -> None:
        self.versions.append(version)
        events = self.watches.pop(0) if self.watches else []
        if events is None:
            handler.connection.close()
            return
        handler.send_response(200)
        handler.end_headers()
        for event in events:
            handler.wfile.write(json.dumps(event).encode() + b"\n")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def cluster(server: ApiServer) -> KubernetesCluster:
    return KubernetesCluster(client.ApiClient(client.Configuration(host=server.url)), "default")


def listing(version: str, *names: str) -> tuple[int, Manifest]:
    return 200, {
        "metadata": {"resourceVersion": version},
        "items": [{"metadata": at(version, name)} for name in names],
    }


def at(version: str, name: str) -> Manifest:
    return {"name": name, "uid": f"uid-{name}", "resourceVersion": version}


def event(kind: str, version: str, name: str) -> Manifest:
    return {"type": kind, "object": {"metadata": at(version, name)}}


def failure(status: int, message: str) -> tuple[int, Manifest]:
    return status, {"kind": "Status", "status": "Failure", "message": message, "code": status}


def watched(cluster: KubernetesCluster, count: int) -> list[tuple[str, str]]:
    events = cluster.watch(MODEL, timeout=SECONDS)
    return [(each.type, each.object["metadata"]["name"]) for each in islice(events, count)]


def test_a_watch_continues_where_the_former_one_ended(
    server: ApiServer, cluster: KubernetesCluster
) -> None:
    server.listings = [listing("10", "heart")]
    server.watches = [
        [event("MODIFIED", "11", "heart"), event("BOOKMARK", "15", "")],
        [event("ADDED", "16", "digits")],
    ]
    assert watched(cluster, 3) == [("ADDED", "heart"), ("MODIFIED", "heart"), ("ADDED", "digits")]
    assert server.versions[:2] == ["10", "15"]


def test_an_expired_watch_restarts_and_yields_the_deletions_in_between(
    server: ApiServer, cluster: KubernetesCluster
) -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
    server.listings = [listing("10", "heart", "old"), listing("50", "heart", "new")]
    server.watches = [[gone], [event("MODIFIED", "51", "new")]]
    assert watched(cluster, 6) == [
        ("ADDED", "heart"),
        ("ADDED", "old"),
        ("DELETED", "old"),
        ("ADDED", "heart"),
        ("ADDED", "new"),
        ("MODIFIED", "new"),
    ]
    assert server.versions[:2] == ["10", "50"]


def test_a_watch_survives_a_broken_connection_and_a_failing_server(
    server: ApiServer, cluster: KubernetesCluster
) -> None:
    server.listings = [listing("10"), failure(503, "starting"), listing("20", "heart")]
    # The client itself tries a broken connection three times more.
    server.watches = [None, None, None, None, [event("MODIFIED", "21", "heart")]]
    assert watched(cluster, 2) == [("ADDED", "heart"), ("MODIFIED", "heart")]


def test_a_forbidden_watch_fails_immediately(server: ApiServer, cluster: KubernetesCluster) -> None:
    server.listings = [failure(403, "models is forbidden")]
    with pytest.raises(ClusterError, match="403: models is forbidden"):
        next(cluster.watch(MODEL))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (403, ClusterError),
        (500, ClusterError),
    ],
)
def test_an_error_has_the_message_of_the_server(
    server: ApiServer, cluster: KubernetesCluster, status: int, error: type[ClusterError]
) -> None:
    server.listings = [failure(status, "spec.alias: must be a string")]
    with pytest.raises(ClusterError, match=r"spec\.alias: must be a string") as raised:
        cluster.apply(model())
    assert type(raised.value) is error


def test_an_unreachable_server_is_a_cluster_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        unreachable = KubernetesCluster(client.ApiClient(client.Configuration(host=url)), "default")
        with pytest.raises(ClusterError, match="does not respond"):
            unreachable.get(MODEL, "heart")
