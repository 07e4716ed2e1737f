"""Which values of a parameter a sweep tries: declared on the field, as ``C: Annotated[float,
Range(0.01, 10.0, log=True)]``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic.fields import FieldInfo

from slipway_jobs.errors import WrongParameter
from slipway_jobs.tasks.task import Task

Value = float | int | str


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included; whole numbers when both are."""

    low: float
    high: float
    log: bool = False
    """Whether equal factors are tried equally often, and not equal differences."""

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, place: float) -> Value:
        """The value at that share of the way, 0 to 1; of four digits, so that it is the same on
        every machine.
        """
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        value = (
            low * math.exp(place * math.log(high / low)) if self.log else low + place * (high - low)
        )
        near = round(value) if self.whole else float(f"{value:.4g}")
        return min(max(near, self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of the values, each tried equally often; those of the field's ``Literal`` when none are
    given.
    """

    values: tuple[Value, ...] = ()

    def at(self, place: float) -> Value:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]


Space = Mapping[str, Range | Choice]


def space_of(task: Task, given: Mapping[str, str]) -> Space:
    """What a sweep of the model varies: what its parameters declare, but for what is ``given``.
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
            f"model: nothing is left to vary of {task.name}: its sweeps vary {known}; give "
            "less by --set"
        )
    return space


def _declared(field: FieldInfo) -> Range | Choice | None:
    for each in field.metadata:
        if isinstance(each, Choice) and not each.values:
            return Choice(get_args(field.annotation))
        if isinstance(each, Range | Choice):
            return each
    return None


def draw(space: Space, seed: int, count: int) -> Sequence[dict[str, Value]]:
    """The first points of a scrambled Sobol sequence in the space: spread evenly, the same for the
    same seed.

    Point n depends on space, seed and n alone: neither on how many are drawn, nor on who tries
    them, nor on what comes of it. Source: Owen, Scrambling Sobol' and Niederreiter-Xing points
    (1998), as in ``scipy.stats.qmc``.
    """
    from scipy.stats import qmc  # half a second of start-up that only a sweep needs

    power = max(1, math.ceil(math.log2(count)))
    places = qmc.Sobol(len(space), scramble=True, rng=seed).random_base2(power)[:count]
    return [
        {name: one.at(place) for (name, one), place in zip(space.items(), row, strict=True)}
        for row in places
    ]
