"""Look-up of tasks and datasets among the installed packages.

A package declares them in the entry-point groups ``slipway.tasks`` and ``slipway.datasets``; the
name of the entry point is that of the task or dataset.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from slipway.errors import NotLoadable, WrongParameter
from slipway.training.dataset import Dataset
from slipway.training.task import Task

TASKS = "slipway.tasks"
DATASETS = "slipway.datasets"

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

Declared = TypeVar("Declared", Task, Dataset)


def task_names() -> list[str]:
    """Return the names of the installed tasks, sorted."""
    return _names(TASKS)


def dataset_names() -> list[str]:
    """Return the names of the installed datasets, sorted."""
    return _names(DATASETS)


def task_of(name: str) -> Task | None:
    """Return the installed task of a model; None for a model without one. Raises NotLoadable."""
    return _installed(TASKS, name, Task) if _found(TASKS, name) else None


def declared_task(name: str) -> Task:
    """Return the installed task of that name, or the task that ``module:attribute`` names.

    Raises WrongParameter if there is none, and NotLoadable.
    """
    if _OBJECT.fullmatch(name):
        return _loaded(EntryPoint(name, name, TASKS), f"task {name}", Task)
    if not _found(TASKS, name):
        raise WrongParameter(
            f"model: {name!r} is unknown; {_installed_names('tasks', task_names())}; install the "
            f"package that declares it in the entry-point group {TASKS}, or name it as "
            "module:attribute"
        )
    return _installed(TASKS, name, Task)


def declared_dataset(name: str) -> Dataset:
    """Return the installed dataset of that name. Raises WrongParameter, NotLoadable."""
    if not _found(DATASETS, name):
        raise WrongParameter(
            f"dataset: {name!r} is unknown; {_installed_names('datasets', dataset_names())}; "
            f"install the package that declares it in the entry-point group {DATASETS}"
        )
    return _installed(DATASETS, name, Dataset)


def _found(group: str, name: str) -> Sequence[EntryPoint]:
    return tuple(entry_points(group=group, name=name))


def _names(group: str) -> list[str]:
    return sorted({point.name for point in entry_points(group=group)})


def _installed_names(kind: str, names: Sequence[str]) -> str:
    return f"the installed {kind} are {', '.join(names)}" if names else f"no {kind} are installed"


def _installed(group: str, name: str, kind: type[Declared]) -> Declared:
    word = kind.__name__.lower()
    point, *others = _found(group, name)
    if others:
        declaring = sorted(_distribution(each) for each in (point, *others))
        raise NotLoadable(
            f"{word} {name}: is declared by {' and by '.join(declaring)}; uninstall one of them"
        )
    where = f"{word} {name} of {_distribution(point)}"
    found = _loaded(point, where, kind)
    if found.name != name:
        raise NotLoadable(
            f"{where}: {point.value} has the name {found.name!r}; give the entry point the same "
            "name"
        )
    return found


def _loaded(point: EntryPoint, where: str, kind: type[Declared]) -> Declared:
    """Import an object and return it; any error of its module becomes NotLoadable."""
    try:
        module = import_module(point.module)
    except Exception as error:
        raise NotLoadable(
            f"{where}: {point.module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    found: Any = getattr(module, point.attr, None)
    if not isinstance(found, kind):
        problem = "does not exist" if found is None else f"is a {type(found).__name__}"
        raise NotLoadable(
            f"{where}: {point.value} {problem}; a slipway.training.{kind.__name__} is expected"
        )
    return found


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
