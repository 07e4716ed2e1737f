"""Adapter of Optuna: a sweep's trials in PostgreSQL, processed by any number of workers.

Without a database the trials are in the memory of one process.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
import psycopg
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from slipway.errors import WrongParameter
from slipway.training.metric import Direction, Metric
from slipway.training.space import Range, Space, Value
from sqlalchemy.exc import SQLAlchemyError

from slipway_jobs.errors import SweepError
from slipway_jobs.postgresql import connect

logger = logging.getLogger(__name__)

SCHEMA = "optuna"
"""Schema in the event log's database; Optuna creates its tables there itself."""

_DIRECTIONS = {Direction.MAX: StudyDirection.MAXIMIZE, Direction.MIN: StudyDirection.MINIMIZE}


@dataclass(frozen=True)
class Trial:
    """A point of the search space with its scores."""

    id: int
    """Optuna's id."""
    number: int
    parameters: Mapping[str, Value]
    state: str
    """``waiting``, ``running``, ``complete``, ``pruned`` or ``fail``."""
    scores: Sequence[Mapping[str, float]]
    """Scores of each finished fold, by metric."""
    reason: str | None
    """Reason of the failure."""

    @property
    def finished(self) -> bool:
        return self.state in ("complete", "pruned", "fail")


class Sweep:
    """One sweep, processed by any number of workers.

    A worker holds a PostgreSQL advisory lock on the number of its trial. The lock ends with the
    process, however it ends. Thus a running trial without a lock belongs to a dead worker, and the
    next worker continues it at its first unfinished fold.
    """

    def __init__(self, url: str | None, name: str, metric: Metric, folds: int) -> None:
        """Connect to the database. Raises SweepError when it is unreachable.

        Without a URL this process is the only worker: its locks are always free.
        """
        self.name = name
        self._metric = metric
        self._folds = folds
        self._session: psycopg.Connection[tuple[Any, ...]] | None = None
        self._storage: BaseStorage = InMemoryStorage()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if url is None:
            return
        with _errors():
            self._session = connect(url, autocommit=True)
            # Two processes that create the same tables concurrently would fail.
            with self.exclusive("schema", of="sweeps"):
                self._session.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                self._storage = RDBStorage(
                    url.replace("postgresql://", "postgresql+psycopg://", 1),
                    engine_kwargs={
                        "creator": lambda: connect(url, options=f"-c search_path={SCHEMA}"),
                        "pool_size": 1,
                    },
                )

    def close(self) -> None:
        """Close the connections and release the locks."""
        if self._session:
            self._session.close()
        self._storage.remove_session()
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    @contextmanager
    def exclusive(self, what: str, of: str | None = None) -> Iterator[None]:
        """Run the block in one process at a time; others wait."""
        if self._session is None:
            yield
            return
        key = f"slipway {of or self.name} {what}"
        with _errors():
            self._session.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
        try:
            yield
        finally:
            with _errors():
                self._session.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])

    def lock(self, what: str) -> bool:
        """Acquire the lock if it is free; it ends with ``unlock`` or with the process."""
        return self._query("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", what)

    def unlock(self, what: str) -> None:
        self._query("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", what)

    def _query(self, query: str, what: str) -> bool:
        if self._session is None:
            return True
        with _errors():
            row = self._session.execute(query, [f"slipway {self.name} {what}"]).fetchone()
        return bool(row and row[0])

    def start(
        self, request: Mapping[str, Any], space: Space, points: Sequence[Mapping[str, Value]]
    ) -> None:
        """Add the trials, or join the sweep with that name. Call it within ``exclusive``.

        Raises WrongParameter when the sweep was started with another ``request``.
        """
        with _errors():
            self._study = optuna.create_study(
                storage=self._storage, study_name=self.name,
                direction=_DIRECTIONS[self._metric.direction], load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(), pruner=CannotWin(self._metric,
                self._folds),
            )  # fmt: skip
            if known := self._study.user_attrs.get("request"):
                _compare(self.name, known, dict(request))
            else:
                self._study.set_user_attr("request", dict(request))
            # A process that was killed here has added the first points already.
            for point in points[len(self._study.get_trials(deepcopy=False)) :]:
                distributions = {name: _distribution(space[name]) for name in point}
                waiting = optuna.create_trial(
                    state=TrialState.WAITING, params=dict(point), distributions=distributions
                )
                self._study.add_trial(waiting)

    def claim(self, worker: int) -> Trial | None:
        """Claim the next unfinished trial without a worker; ``finish`` releases it."""
        for trial in self.trials():
            if trial.finished or not self.lock(f"trial {trial.number}"):
                continue
            with _errors():
                # Another worker may have finished it between the list and the lock.
                if not self._storage.get_trial(trial.id).state.is_finished():
                    self._storage.set_trial_state_values(trial.id, TrialState.RUNNING)
                    self._storage.set_trial_user_attr(trial.id, "worker", worker)
                    return _trial(self._storage.get_trial(trial.id))
            self.unlock(f"trial {trial.number}")
        return None

    def score(self, trial: Trial, fold: int, scores: Mapping[str, float]) -> bool:
        """Store the scores of a fold; return whether the trial should continue."""
        with _errors():
            running = optuna.trial.Trial(self._study, trial.id)
            running.set_user_attr(f"fold {fold}", dict(scores))
            running.report(scores[self._metric.name], step=fold)
            return not running.should_prune()

    def finish(
        self, trial: Trial, state: str, value: float | None = None, reason: str | None = None
    ) -> None:
        """Finish a trial: ``complete`` with its value, ``pruned``, or ``fail`` with a reason.

        A trial that another worker has finished stays unchanged.
        """
        with _errors():
            if reason is not None:
                self._storage.set_trial_user_attr(trial.id, "reason", reason)
            self._study.tell(
                trial.number, value, state=TrialState[state.upper()], skip_if_finished=True
            )
        self.unlock(f"trial {trial.number}")

    def trials(self) -> list[Trial]:
        """Return all trials, ordered by number."""
        with _errors():
            return [
                _trial(each)
                for each in self._storage.get_all_trials(
                    self._storage.get_study_id_from_name(self.name)
                )
            ]


class CannotWin(optuna.pruners.BasePruner):
    """Prunes a trial that cannot become the best even with perfect scores in its remaining folds.

    Pruning thus saves time and never changes which trial is the best, independent of the workers'
    speed.
    """

    def __init__(self, metric: Metric, folds: int) -> None:
        self._metric = metric
        self._folds = folds

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        known = [
            mean(each.intermediate_values.values())
            for each in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ]
        done = list(trial.intermediate_values.values())
        attainable = mean([*done, *[self._metric.perfect] * (self._folds - len(done))])
        return any(self._metric.direction.gain(attainable, value) < 0 for value in known)


def mean(values: Any) -> float:
    """Return the exactly rounded mean, independent of the order: equal trials have equal means."""
    values = list(values)
    return math.fsum(values) / len(values)


def best(trials: Sequence[Trial], metric: Metric) -> Trial | None:
    """Return the complete trial with the best mean; of equal ones the first."""
    found, top = None, 0.0
    for trial in trials:
        if trial.state != "complete":
            continue
        score = mean(each[metric.name] for each in trial.scores)
        if found is None or metric.direction.gain(score, top) > 0:
            found, top = trial, score
    return found


def _trial(frozen: FrozenTrial) -> Trial:
    done = sorted(frozen.intermediate_values)
    scores = [frozen.user_attrs[f"fold {fold}"] for fold in done]
    return Trial(
        frozen._trial_id,
        frozen.number,
        frozen.params,
        frozen.state.name.lower(),
        scores,
        frozen.user_attrs.get("reason"),
    )


def _distribution(declared: Any) -> BaseDistribution:
    if not isinstance(declared, Range):
        return CategoricalDistribution(declared.values)
    if declared.whole:
        return IntDistribution(int(declared.low), int(declared.high), log=declared.log)
    return FloatDistribution(declared.low, declared.high, log=declared.log)


def _compare(name: str, known: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    for key in known.keys() | requested.keys():
        if known.get(key) != requested.get(key):
            was, now = known.get(key), requested.get(key)
            raise WrongParameter(
                f"sweep: {name} was started with {key} {was}, not {now}; use the same, or name "
                "another sweep"
            )


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, SQLAlchemyError, OptunaError) as error:
        raise SweepError(
            f"the sweep cannot be read or written: {error}; check SLIPWAY_DATABASE_URL"
        ) from error
