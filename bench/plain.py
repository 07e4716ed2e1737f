"""Baseline of the comparison: a typical proxy with FastAPI and httpx, without checks and logs.

UPSTREAM=http://127.0.0.1:9000 uvicorn bench.plain:application
"""

import os
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request, Response

UPSTREAM = os.environ["UPSTREAM"]
application = FastAPI()
client = httpx.AsyncClient(
    base_url=UPSTREAM, limits=httpx.Limits(max_connections=256, max_keepalive_connections=256)
)


async def content(request: Request) -> bytes:
    return await request.body()


@application.post("/v2/models/{model}/infer")
async def infer(model: str, body: Annotated[bytes, Depends(content)]) -> Response:
    answer = await client.post(
        f"/v2/models/{model}-3/infer", content=body, headers={"content-type": "application/json"}
    )
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])
