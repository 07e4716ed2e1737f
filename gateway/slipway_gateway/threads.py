"""Work on large bodies, outside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

INLINE = 2**16
"""Bytes that are parsed, checked, serialized or packed in the event loop; more are handled in a
thread.
"""

_POOL = ThreadPoolExecutor(2, "large-bodies")
"""Parsers hold Python's lock: more threads would not be faster, and each takes the memory of
another body.
"""

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def run(size: int, work: "Callable[[*Arguments], Result]", *arguments: *Arguments) -> Result:
    """``work(*arguments)``, in a thread when it handles more than ``INLINE`` bytes. Raises what
    ``work`` raises.

    A thread frees the loop between calls of C functions only: what ``work`` gets must be bounded
    (see contract/body.py).
    """
    if size <= INLINE:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(
        _POOL, partial(copy_context().run, work, *arguments)
    )
