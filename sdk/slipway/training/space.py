"""The search space of a sweep, declared on parameters.

``C: Annotated[float, Range(0.01, 10.0, log=True)]`` declares the values that a sweep tries.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic.fields import FieldInfo

from slipway.errors import WrongParameter
from slipway.training.task import Task

Value = float | int | str


@dataclass(frozen=True)
class Range:
    """A range from ``low`` to ``high``, both included; of integers when both are integers."""

    low: float
    high: float
    log: bool = False
    """Whether values are spaced by equal factors instead of equal differences."""

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> Value:
        """Return the value at ``share`` of the range, from 0 to 1.

        It is rounded to four digits, so that it is the same on every machine.
        """
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = (
            low * math.exp(share * math.log(high / low)) if self.log else low + share * (high - low)
        )
        near = round(value) if self.whole else float(f"{value:.4g}")
        return min(max(near, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of the values, all tried equally often; by default those of the field's ``Literal``."""

    values: tuple[Value, ...] = ()

    def at(self, share: float) -> Value:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Space = Mapping[str, Range | Choice]


def space_of(task: Task, given: Mapping[str, str]) -> Space:
    """Return the search space of a task: the declared ranges of all parameters but ``given``.

    Raises WrongParameter.
    """
    fields = task.parameters.model_fields.items()
    space = {
        name: declared
        for name, field in fields
        if name not in given and (declared := _declared(field))
    }
    if not space:
        known = ", ".join(name for name, field in fields if _declared(field)) or "none"
        raise WrongParameter(
            f"model: --set fixes every parameter that a sweep of {task.name} varies: {known}; "
            "set fewer"
        )
    return space


def _declared(field: FieldInfo) -> Range | Choice | None:
    for each in field.metadata:
        if isinstance(each, Choice) and not each.values:
            return Choice(get_args(field.annotation))
        if isinstance(each, Range | Choice):
            return each
    return None


def sample(space: Space, seed: int, count: int) -> Sequence[dict[str, Value]]:
    """Return the first ``count`` points of a scrambled Sobol sequence in the space.

    Point n depends on space, seed and n alone, not on ``count``, the workers or their results.
    Source: Owen, Scrambling Sobol' and Niederreiter-Xing points (1998), as in ``scipy.stats.qmc``.
    """
    from scipy.stats import qmc  # takes half a second to import; only a sweep needs it

    power = max(1, math.ceil(math.log2(count)))
    shares = qmc.Sobol(len(space), scramble=True, rng=seed).random_base2(power)[:count]
    return [
        {name: one.at(share) for (name, one), share in zip(space.items(), row, strict=True)}
        for row in shares
    ]
