"""Simulated traffic: held-out rows of a model's dataset, and later their true labels."""

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Event
from typing import Any, TypeVar

import numpy as np
from slipway.errors import WrongParameter
from slipway.training.dataset import Features, Labels, Table
from slipway.training.task import Task, parse_parameters
from slipway_contract.v2 import Datatype, element_count

from slipway_jobs.settings import SimulatorSettings
from slipway_jobs.simulation.caller import Caller, RetryLater, RowRefused
from slipway_jobs.training.training import load_parts

T = TypeVar("T")

logger = logging.getLogger(__name__)

_BACKOFF = (0.5, 30.0)
"""First and longest pause in seconds between retries."""

_LATE = 5.0
"""Seconds; a longer delay of the schedule is not made up for."""


@dataclass(frozen=True)
class Shift:
    """An offset of an input, which causes drift."""

    column: str
    amount: float
    spread: bool
    """Whether the amount is in standard deviations of the held-out rows."""

    @classmethod
    def parse(cls, text: str) -> "Shift":
        """Parse ``age=+2sd`` or ``chol=-30``. Raises WrongParameter."""
        found = re.fullmatch(r"([^=]+)=([+-][0-9]+(?:\.[0-9]+)?)(sd)?", text)
        if not found:
            raise WrongParameter(
                f"--shift {text!r}: has no COLUMN=+NUMBER form; write for example --shift age=+2sd"
            )
        return cls(found[1], float(found[2]), found[3] is not None)


@dataclass(frozen=True)
class Plan:
    """Rate, duration and rows of the traffic."""

    rate: float
    """Rows per minute."""
    seconds: float | None = None
    """Duration; None: until it is stopped."""
    dataset: str | None = None
    shifts: Sequence[Shift] = ()
    label_after: float = 2.0
    """Seconds between a prediction and its label; by then every replica of the gateway has it."""


def simulate(task: Task, plan: Plan, settings: SimulatorSettings, stop: Event) -> dict[str, Any]:
    """Send rows until the duration is over or ``stop`` is set; return the counts as JSON.

    Raises WrongParameter, CallRefused.
    """
    given = {"dataset": plan.dataset} if plan.dataset else {}
    loaded, split = load_parts(task, parse_parameters(task, given), settings)
    dataset = loaded.entry
    rows = (
        shifted(task, split.test, plan.shifts)
        if task.data is None
        else shifted_frame(split.test, plan.shifts)
    )
    logger.info(
        "%g rows per minute of the %d held-out rows of %s", plan.rate, len(rows), dataset.name
    )
    caller = Caller(settings)
    try:
        sent = Stream(task, caller, plan, stop).send(rows, split.test.truth)
    finally:
        caller.close()
    counts = {
        name: sent[name] for name in ("predicted", "labelled", "correct", "refused", "waited")
    }
    return {
        "state": "simulated",
        "model": task.name,
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        **counts,
    }


class Stream:
    """Sends rows on schedule, and their labels later."""

    def __init__(self, task: Task, caller: Caller, plan: Plan, stop: Event) -> None:
        self._task = task
        self._caller = caller
        self._plan = plan
        self._stop = stop
        self._counts: Counter[str] = Counter()
        self._pending: deque[tuple[float, str, float]] = deque()
        """Due time, request id and label of each prediction."""

    def send(self, rows: Any, labels: Labels) -> Counter[str]:
        """Send the rows repeatedly; all predictions get their labels before the end if possible."""
        end = float("inf") if self._plan.seconds is None else time.monotonic() + self._plan.seconds
        for number in self._ticks(60 / self._plan.rate, end):
            position = number % len(rows)
            self._send_labels(until=time.monotonic())
            self._predict(rows[position : position + 1], labels[position].item())
        while self._pending:
            time.sleep(max(0.0, self._pending[0][0] - time.monotonic()))
            self._send_labels(until=time.monotonic())
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

    def _predict(self, row: Any, label: Any) -> None:
        instance = self._task.instance(row)
        prediction = self._with_retries(lambda: self._caller.predict(self._task.name, instance))
        if prediction is None:
            return
        self._counts["predicted"] += 1
        self._counts["correct"] += prediction.outputs.get("label") == label
        self._pending.append(
            (time.monotonic() + self._plan.label_after, prediction.request_id, label)
        )

    def _send_labels(self, until: float) -> None:
        while self._pending and self._pending[0][0] <= until:
            _, request_id, label = self._pending.popleft()
            if self._with_retries(partial(self._caller.label, request_id, label)):
                self._counts["labelled"] += 1

    def _with_retries(self, call: Callable[[], T]) -> T | None:
        """Call until it succeeds; return None for a rejected row and at the end."""
        pause, longest = _BACKOFF
        while True:
            try:
                return call()
            except RowRefused as error:
                logger.warning("%s", error)
                self._counts["refused"] += 1
                return None
            except RetryLater as error:
                seconds = pause if error.seconds is None else error.seconds
                logger.info("%s; retrying in %.0f s", error, seconds)
                self._counts["waited"] += 1
                if self._stop.wait(seconds):
                    return None
                pause = min(2 * pause, longest)


def shifted(task: Task, test: Table, shifts: Sequence[Shift]) -> Features:
    """Return the rows [rows, width] with their offsets, within the bounds of their inputs.

    Raises WrongParameter.
    """
    rows: Features = test.features.copy()
    widths = [element_count(column.shape) for column in task.signature.inputs]
    positions = dict(
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
            raise WrongParameter(_not_numeric(shift, numbers))
        column, values = numbers[shift.column], rows[:, positions[shift.column]]
        values += shift.amount * (np.nanstd(values) if shift.spread else 1)
        np.clip(values, column.minimum, column.maximum, out=values)
    return rows


def shifted_frame(test: Table, shifts: Sequence[Shift]) -> Any:
    """Return the rows of a data frame with their offsets. Raises WrongParameter."""
    rows = test.features.copy()
    numbers = [name for name in rows.columns if rows[name].dtype.kind in "iuf"]
    for shift in shifts:
        if shift.column not in numbers:
            raise WrongParameter(_not_numeric(shift, numbers))
        values = rows[shift.column]
        moved = values + shift.amount * (values.std() if shift.spread else 1)
        rows[shift.column] = (moved.round() if values.dtype.kind in "iu" else moved).astype(
            values.dtype
        )
    return rows


def _not_numeric(shift: Shift, numbers: Iterable[str]) -> str:
    return (
        f"--shift {shift.column}: is not a numeric input; numeric inputs: "
        f"{', '.join(numbers) or 'none'}"
    )
