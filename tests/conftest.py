"""How the tests are spread over processes: what shares servers stays together, the longest group first."""

import pytest

# The embedded ring, and MLflow, PostgreSQL and the issuer of these folders, are started once for all tests of a folder.
TOGETHER = ("embedded", "gateway", "jobs")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def folder(item: pytest.Item) -> str:
        return item.path.parent.name

    for item in items:
        if folder(item) in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder(item)))
    items.sort(key=lambda item: TOGETHER.index(folder(item)) if folder(item) in TOGETHER else len(TOGETHER))
