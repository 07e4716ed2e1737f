"""The context of an authorized request: its caller and the reason of the access decision."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway_gateway.access.grants import Grant
from slipway_gateway.errors import Headers
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.limits.quotas import Permit


@dataclass(slots=True)
class RequestContext:
    """An authorized request: its caller, access decision, grant and quota permit."""

    request_id: str
    caller: Caller
    decision: str
    protocol: str
    trace: Mapping[str, str] | None = None
    """W3C Trace Context headers for the predictor."""
    grant: Grant | None = None
    """Grant of the model in the path; None if the path has no model."""
    permit: Permit | None = None
    """Reservation in the grant's quota; None if the grant has no quota."""
    headers: Headers = field(default_factory=list)
    """Headers of every response to the request."""
    address: str = ""
    """Client address; empty for V2 requests, which do not need it."""
    arrived: float = field(default_factory=time.time)
    """Arrival in Unix time."""
    started: float = field(default_factory=time.perf_counter)
    """Arrival on the monotonic clock, for latencies."""


@dataclass(slots=True)
class ResponseState:
    """The state that the decoration of a response reads.

    It refers neither to the scope nor to the exchange of the request, so that a request creates
    no reference cycle for the garbage collector.
    """

    context: RequestContext | None = None
    """None for a request that is not authorized yet, or that needs no token."""
    has_started: bool = False
