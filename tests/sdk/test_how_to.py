"""The code of docs/how-to/logging.md runs in the order of the page."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from slipway.registry.tracking import Tracking

from tests.documents import ROOT
from tests.sdk.churn import customers

PAGE = (ROOT / "docs/how-to/logging.md").read_text()


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_logs_a_version_prints_its_signature_and_moves_the_alias(
    tracking: Tracking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, left = customers()
    columns = ["monthly fee", "age", "city", "note", "plan"]
    pd.DataFrame(table[columns]).assign(
        left=left, **{"monthly fee": table["monthly fee"].abs()}
    ).to_csv(tmp_path / "customers.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in fenced("python"):
        exec(block, names)  # noqa: S102
    (printed,) = fenced("text")
    assert printed in capsys.readouterr().out
    served = tracking.aliased("churn", "champion")
    assert served is not None
    assert served.version == names["version"].version
