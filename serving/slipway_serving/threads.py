"""Work on large requests, outside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

_POOL = ThreadPoolExecutor(2, "large-requests")
"""Parsers hold Python's lock: more threads would not be faster, and each takes the memory of
another request.
"""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def run(
    is_large: bool, work: "Callable[[*Arguments], Result]", *arguments: *Arguments
) -> Result:
    """``work(*arguments)``, in a thread when it is large, so that probes are answered meanwhile.
    Raises what ``work`` raises.
    """
    if not is_large:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(
        _POOL, partial(copy_context().run, work, *arguments)
    )
