"""Processing of large bodies outside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

INLINE = 2**16
"""Maximum size in bytes of a body that is processed in the event loop instead of a thread."""

_POOL = ThreadPoolExecutor(2, "large-bodies")
"""Parsers hold the GIL: more threads would not be faster, and each needs memory for a body."""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def run(size: int, work: "Callable[[*Arguments], Result]", *arguments: *Arguments) -> Result:
    """Return ``work(*arguments)``, called in a thread if ``size`` exceeds ``INLINE`` bytes.

    A thread yields to the event loop only between calls of C functions, so the arguments must have
    a bounded size (see contract/body.py). Raises the errors of ``work``.
    """
    if size <= INLINE:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(
        _POOL, partial(copy_context().run, work, *arguments)
    )
