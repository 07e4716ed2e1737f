"""Traffic as it might be: held-out rows of a model's dataset through the gateway, and a little
later their true labels.
"""

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Event
from typing import Any, TypeVar

import numpy as np
from slipway_contract.v2 import Datatype, element_count

from slipway_jobs.data.dataset import Features, Labels, Table
from slipway_jobs.errors import WrongParameter
from slipway_jobs.settings import SimulatorSettings
from slipway_jobs.simulation.caller import Caller, NotNow, RowRefused
from slipway_jobs.tasks.task import Task, parse_parameters
from slipway_jobs.training.training import load_parts

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PATIENCE = (0.5, 30.0)
"""Seconds to wait the first time that something is away, and at most."""

_LATE = 5.0
"""Seconds; who is later than that does not hurry to make up for it."""


@dataclass(frozen=True)
class Shift:
    """What is added to an input, so that the monitor has drift to see."""

    column: str
    amount: float
    spread: bool
    """Whether the amount is in standard deviations of the held-out rows."""

    @classmethod
    def parse(cls, text: str) -> "Shift":
        """``age=+2sd``, ``chol=-30``. Raises WrongParameter."""
        found = re.fullmatch(r"([^=]+)=([+-][0-9]+(?:\.[0-9]+)?)(sd)?", text)
        if not found:
            raise WrongParameter(
                f"--shift {text!r}: has no COLUMN=+NUMBER form; write for example --shift age=+2sd"
            )
        return cls(found[1], float(found[2]), found[3] is not None)


@dataclass(frozen=True)
class Plan:
    """What is to be sent."""

    rate: float
    """Rows a minute."""
    seconds: float | None = None
    """None: until it is told to end."""
    dataset: str | None = None
    shifts: Sequence[Shift] = ()
    label_after: float = 2.0
    """Seconds after its prediction at which a label is said: by then every replica of the gateway
    knows the prediction.
    """


def simulate(task: Task, plan: Plan, settings: SimulatorSettings, stop: Event) -> dict[str, Any]:
    """Send rows until the time is over or ``stop`` is set; the counts as JSON. Raises
    WrongParameter, CallRefused.
    """
    given = {"dataset": plan.dataset} if plan.dataset else {}
    loaded, split = load_parts(task, parse_parameters(task, given), settings)
    dataset = loaded.entry
    rows = shifted(task, split.test, plan.shifts)
    logger.info(
        "%g rows a minute of the %d held-out rows of %s", plan.rate, len(rows), dataset.name
    )
    caller = Caller(settings)
    try:
        sent = Stream(task, caller, plan, stop).send(rows, split.test.labels)
    finally:
        caller.close()
    said = {name: sent[name] for name in ("predicted", "labelled", "correct", "refused", "waited")}
    return {
        "state": "simulated",
        "model": task.name,
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        **said,
    }


class Stream:
    """Rows at their times, and labels behind them."""

    def __init__(self, task: Task, caller: Caller, plan: Plan, stop: Event) -> None:
        self._task = task
        self._caller = caller
        self._plan = plan
        self._stop = stop
        self._counts: Counter[str] = Counter()
        self._unsaid: deque[tuple[float, str, float]] = deque()
        """When it is to be said, of which prediction, the label."""

    def send(self, rows: Features, labels: Labels) -> Counter[str]:
        """Over and over from the first row; what was predicted is labelled before the end, unless
        something is away.
        """
        end = float("inf") if self._plan.seconds is None else time.monotonic() + self._plan.seconds
        for number in self._ticks(60 / self._plan.rate, end):
            place = number % len(rows)
            self._say_labels(until=time.monotonic())
            self._predict(rows[place : place + 1], labels[place].item())
        while self._unsaid:
            time.sleep(max(0.0, self._unsaid[0][0] - time.monotonic()))
            self._say_labels(until=time.monotonic())
        return self._counts

    def _ticks(self, interval: float, end: float) -> Iterator[int]:
        due = time.monotonic()
        for number in count():
            if (
                self._stop.wait(max(0.0, min(due, end) - time.monotonic()))
                or time.monotonic() >= end
            ):
                return
            yield number
            due = max(due + interval, time.monotonic() - _LATE)

    def _predict(self, row: Features, label: float) -> None:
        instance = self._task.instance(row)
        answer = self._patiently(lambda: self._caller.predict(self._task.name, instance))
        if answer is None:
            return
        self._counts["predicted"] += 1
        self._counts["correct"] += answer.outputs.get("label") == label
        self._unsaid.append((time.monotonic() + self._plan.label_after, answer.request_id, label))

    def _say_labels(self, until: float) -> None:
        while self._unsaid and self._unsaid[0][0] <= until:
            _, request_id, label = self._unsaid.popleft()
            if self._patiently(partial(self._caller.label, request_id, label)):
                self._counts["labelled"] += 1

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Ask again when it is time to; None when what was asked does not fit, or at the end."""
        pause, longest = _PATIENCE
        while True:
            try:
                return call()
            except RowRefused as error:
                logger.warning("%s", error)
                self._counts["refused"] += 1
                return None
            except NotNow as error:
                seconds = pause if error.seconds is None else error.seconds
                logger.info("%s; again in %.0f s", error, seconds)
                self._counts["waited"] += 1
                if self._stop.wait(seconds):
                    return None
                pause = min(2 * pause, longest)


def shifted(task: Task, test: Table, shifts: Sequence[Shift]) -> Features:
    """The rows with what is to be added, within the bounds of their inputs. Raises
    WrongParameter.
    """
    rows = test.features.copy()
    widths = [element_count(column.shape) for column in task.signature.inputs]
    places = dict(
        zip(
            (column.name for column in task.signature.inputs), np.cumsum([0, *widths]), strict=False
        )
    )
    numbers = {
        c.name: c
        for c in task.signature.inputs
        if c.datatype is Datatype.FP32 and not c.shape and not c.codes
    }
    for shift in shifts:
        if shift.column not in numbers:
            raise WrongParameter(
                f"--shift {shift.column}: is not a number among the inputs; these are: "
                f"{', '.join(numbers) or 'none'}"
            )
        column, values = numbers[shift.column], rows[:, places[shift.column]]
        values += shift.amount * (np.nanstd(values) if shift.spread else 1)
        np.clip(values, column.minimum, column.maximum, out=values)
    return rows
