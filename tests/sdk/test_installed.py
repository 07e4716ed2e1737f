"""Tasks and datasets of installed packages: found by their entry points."""

from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.errors import NotLoadable, WrongParameter
from slipway.training.installed import (
    dataset_names,
    declared_dataset,
    declared_task,
    task_names,
    task_of,
)

MODULE = """
from slipway.training import ACCURACY, Classes, Dataset, Parameters, Task
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

columns = (Column(name="x", datatype=Datatype.FP32),)
rows = Dataset(name="rows", title="Rows", source="s", licence="l", citation="c", subject="row")
task = Task(
    name="{task}", title="T", use="U", limits=(), datasets=("rows",),
    signature=Signature(inputs=columns, outputs=columns), target=Classes(2),
    parameters=Parameters, estimators=lambda _: {{}}, metrics=(ACCURACY,), selection=ACCURACY,
)
"""

Installer = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """``install(name, points, **modules)`` makes a distribution importable."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, points: str, **modules: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)

    return install


def test_a_package_declares_a_task_and_a_dataset(install: Installer) -> None:
    install(
        "grown",
        "[slipway.tasks]\ngrown = grown_a:task\n[slipway.datasets]\nrows = grown_a:rows\n",
        grown_a=MODULE.format(task="grown"),
    )
    assert "grown" in task_names()
    assert "rows" in dataset_names()
    assert declared_task("grown").datasets == ("rows",)
    assert task_of("grown") is declared_task("grown")
    assert declared_dataset("rows").subject == "row"


def test_a_task_without_an_entry_point_is_named_by_module_and_attribute(
    install: Installer,
) -> None:
    install("plain", "", plain_b=MODULE.format(task="plain"))
    assert declared_task("plain_b:task").name == "plain"
    with pytest.raises(NotLoadable, match=r"plain_b:rows is a Dataset; a .*Task is expected"):
        declared_task("plain_b:rows")
    with pytest.raises(NotLoadable, match="plain_b:nothing does not exist"):
        declared_task("plain_b:nothing")


def test_an_unknown_name_lists_what_is_installed(install: Installer) -> None:
    install("known", "[slipway.tasks]\nknown-c = known_c:task\n")
    with pytest.raises(WrongParameter, match=r"model: 'lungs' is unknown; .*known-c"):
        declared_task("lungs")
    with pytest.raises(WrongParameter, match=r"dataset: 'rocks' is unknown; the installed"):
        declared_dataset("rocks")
    assert task_of("lungs") is None


def test_two_packages_with_one_name_are_both_named(install: Installer) -> None:
    for name in ("first", "second"):
        install(name, "[slipway.tasks]\ntwice = twice_d:task\n")
    message = r"task twice: is declared by first 1\.0 and by second 1\.0; uninstall one of them"
    with pytest.raises(NotLoadable, match=message):
        declared_task("twice")
    with pytest.raises(NotLoadable, match=message):
        task_of("twice")


def test_a_module_that_cannot_be_imported_is_named_with_the_cause(install: Installer) -> None:
    install("broken", "[slipway.tasks]\nbroken = broken_e:task\n", broken_e="1 / 0")
    with pytest.raises(
        NotLoadable,
        match=r"task broken of broken 1\.0: broken_e cannot be imported: ZeroDivisionError",
    ) as caught:
        declared_task("broken")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_entry_point_has_the_name_of_the_task(install: Installer) -> None:
    install("other", "[slipway.tasks]\nmine = other_f:task\n", other_f=MODULE.format(task="yours"))
    with pytest.raises(NotLoadable, match=r"other_f:task has the name 'yours'"):
        declared_task("mine")
