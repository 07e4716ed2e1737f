"""Threads for large requests, which would block the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

_POOL = ThreadPoolExecutor(2, "large-requests")
"""Two threads: parsers hold the interpreter lock, and each request in a thread takes memory."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def run(
    is_large: bool, work: "Callable[[*Arguments], Result]", *arguments: *Arguments
) -> Result:
    """Return ``work(*arguments)``, computed in a thread when it is large.

    The event loop answers probes meanwhile. Raises what ``work`` raises.
    """
    if not is_large:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(
        _POOL, partial(copy_context().run, work, *arguments)
    )
