"""One HTTP request on the hot path, with the channel for its response."""

from contextlib import aclosing

import orjson
from starlette.types import Receive, Send

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.rules import Rule
from slipway_gateway.errors import JSON, Headers
from slipway_gateway.http.bodybudget import BodyShare
from slipway_gateway.http.coding import WORTH, pack, preferred
from slipway_gateway.http.link import Answer
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.threads import run


class Exchange:
    """One HTTP request and the channel for its response."""

    __slots__ = (
        "caller",
        "context",
        "headers",
        "names",
        "receive",
        "request_id",
        "rule",
        "send",
        "share",
    )

    def __init__(
        self,
        request_id: str,
        rule: Rule,
        names: dict[str, str],
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        self.request_id = request_id
        self.rule = rule
        self.names = names
        """Parameters of the path."""
        self.headers = headers
        self.receive = receive
        self.send = send
        self.caller: Caller | None = None
        """None for a request without a token, and in a worker."""
        self.context: RequestContext | None = None
        self.share: BodyShare | None = None
        """Memory share of the body; None in a worker, which runs few tasks."""

    async def start(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def answer(self, answer: Answer, headers: Headers) -> None:
        """Send a response, compressed if it is large enough and the caller accepts a coding."""
        headers = [(b"content-type", answer.content_type.encode()), *headers]
        if answer.rest is not None or len(answer.head) >= WORTH:
            accepted = self.headers.get(b"accept-encoding")
            coding = preferred(accepted) if accepted else None
            if coding:
                await run(len(answer.head), pack, answer, coding)
                headers += [(b"content-encoding", coding), (b"vary", b"accept-encoding")]
        if answer.rest is None:
            await self.start(
                answer.status, [*headers, (b"content-length", str(len(answer.head)).encode())]
            )
            await self.send({"type": "http.response.body", "body": answer.head})
            return
        async with aclosing(answer.rest) as rest:
            await self.start(answer.status, headers)
            await self.send({"type": "http.response.body", "body": answer.head, "more_body": True})
            async for chunk in rest:
                await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self.send({"type": "http.response.body", "body": b""})

    async def json(
        self, content: object, status: int = 200, headers: Headers | None = None
    ) -> None:
        body = orjson.dumps(content)
        length = str(len(body)).encode()
        await self.start(
            status, [(b"content-type", JSON), (b"content-length", length), *(headers or [])]
        )
        await self.send({"type": "http.response.body", "body": body})
