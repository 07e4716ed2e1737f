"""A request that was let in: by whom, and what let it in."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway_gateway.access.grants import Grant
from slipway_gateway.errors import Headers
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.limits.quotas import Permit


@dataclass(slots=True)
class RequestContext:
    """A request that was let in."""

    request_id: str
    caller: Caller
    decision: str
    protocol: str
    trace: Mapping[str, str] | None = None
    """Headers of W3C Trace Context for the predictor."""
    grant: Grant | None = None
    """Of the model in the path, if there is one."""
    permit: Permit | None = None
    """Out of the grant's quota, if it has one."""
    headers: Headers = field(default_factory=list)
    """Of every answer to it."""
    address: str = ""
    """Whence it came; not looked up where predictions are made."""
    arrived: float = field(default_factory=time.time)
    begun: float = field(default_factory=time.perf_counter)
