"""One HTTP request on the hot path, with the channel for its response."""

from contextlib import aclosing

import orjson
from starlette.types import Receive, Send

from slipway_gateway.access.context import RequestContext
from slipway_gateway.errors import JSON, Headers
from slipway_gateway.http.bodybudget import BodyShare
from slipway_gateway.http.coding import WORTH, pack, preferred
from slipway_gateway.http.link import Answer
from slipway_gateway.threads import run


class Exchange:
    """One HTTP request and the channel for its response."""

    __slots__ = ("context", "headers", "names", "receive", "request_id", "send", "share")

    def __init__(
        self,
        request_id: str,
        context: RequestContext | None,
        names: dict[str, str],
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
        share: BodyShare | None = None,
    ) -> None:
        self.request_id = request_id
        self.context = context
        self.names = names
        self.headers = headers
        self.receive = receive
        self.send = send
        self.share = share
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
