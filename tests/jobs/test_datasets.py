"""Sources of datasets, and the errors of wrong copies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from slipway.errors import CorruptTable, Unavailable, WrongDigest
from slipway.training.dataset import Table
from slipway.training.installed import declared_dataset
from slipway_heart.cleveland import read_cleveland
from slipway_heart.synthetic import synthetic_heart
from slipway_jobs.datasets.sources import first_available, load
from slipway_jobs.settings import Settings

from tests.jobs.tables import original, recoded, with_cell
from tests.support.http_server import Response, http_server

PATIENTS = synthetic_heart(rows=60)
FILE = original(PATIENTS)


def settings_for(data: Path | None = None, fetch: bool = False) -> Settings:
    return Settings(
        MLFLOW_TRACKING_URI="http://127.0.0.1:9", data=data, fetch=fetch, fetch_timeout=60
    )


def test_copies_with_and_without_a_header_in_any_order_have_one_digest() -> None:
    backwards = b"\n".join(reversed(original(PATIENTS, label=None).splitlines()))
    for copy in (
        original(PATIENTS, "num"),
        original(PATIENTS, "classe"),
        original(PATIENTS, label=None),
        backwards,
    ):
        assert read_cleveland(copy, "copy").digest == PATIENTS.digest


def test_the_recoded_copy_equals_the_original_with_its_label() -> None:
    table = read_cleveland(recoded(PATIENTS), "heart.csv")
    assert np.array_equal(table.labels, PATIENTS.labels)
    assert np.array_equal(table.features, PATIENTS.features, equal_nan=True)
    assert table.digest == PATIENTS.digest


def test_one_changed_value_changes_the_digest() -> None:
    assert read_cleveland(with_cell(FILE, 5, 4, "199.0"), "copy").digest != PATIENTS.digest
    flipped = PATIENTS.labels.copy()
    flipped[7] = 1 - flipped[7]
    assert Table.of(PATIENTS.features, flipped).digest != PATIENTS.digest


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        (12, "9.0", "line 17, column thal: 9 is not one of the codes 3, 6, 7 or null"),
        (0, "-5", "line 17, column age: -5 is below the minimum 1 a"),
        (0, "?", "line 17, column age: "),
        (4, "two hundred", "line 17, column chol: 'two hundred' is not a number"),
        (4, "nan", "line 17, column chol: 'nan' is not a finite number"),
        (3, "1300.0", "line 17, column trestbps: 1300 is above the maximum 300 mm[Hg]"),
        (13, "10", "line 17, column num: 10 is not one of 0, 1, 2, 3, 4"),
        (4, "1.0,2.0", "line 17: has 15 columns; 14 are expected"),
    ],
)
def test_a_corrupt_row_is_refused_by_line_and_column(column: int, cell: str, expected: str) -> None:
    with pytest.raises(CorruptTable) as refused:
        read_cleveland(with_cell(FILE, 17, column, cell), "table.csv")
    assert str(refused.value).startswith(f"table.csv {expected}")


def test_a_corrupt_code_of_the_recoded_copy_is_refused_by_line_and_column() -> None:
    with pytest.raises(
        CorruptTable, match=r"heart.csv line 9, column cp: 7 is not a code of the re-coded copy"
    ):
        read_cleveland(with_cell(recoded(PATIENTS), 9, 2, "7"), "heart.csv")


def test_columns_in_another_order_are_refused() -> None:
    with pytest.raises(CorruptTable, match=r"line 1, column 2: is 'cp'; 'sex' is expected"):
        read_cleveland(FILE.replace(b"age,sex,cp", b"age,cp,sex"), "table.csv")


@pytest.mark.parametrize("content", [b"", b"age,sex\n", b"\xff\xfe\x00"])
def test_a_file_without_a_table_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptTable, match=r"^table.csv"):
        read_cleveland(content, "table.csv")


def test_a_mirror_comes_before_the_public_source(tmp_path: Path) -> None:
    (tmp_path / "heart_cleveland.csv").write_bytes(FILE)
    entry = replace(
        declared_dataset("heart-cleveland"), digest=PATIENTS.digest, url="http://127.0.0.1:9/never"
    )
    assert load(entry, settings_for(tmp_path, fetch=True)).digest == PATIENTS.digest


def test_the_public_source_comes_when_the_mirror_has_no_copy(tmp_path: Path) -> None:
    requested: list[str] = []

    def serve(_: str, path: str, __: dict[str, str], ___: bytes) -> Response:
        requested.append(path)
        return 200, original(PATIENTS, label=None)

    with http_server(serve) as url:
        entry = replace(
            declared_dataset("heart-cleveland"),
            digest=PATIENTS.digest,
            url=f"{url}/processed.cleveland.data",
        )
        assert load(entry, settings_for(tmp_path, fetch=True)).digest == PATIENTS.digest
    assert requested == ["/processed.cleveland.data"]


def test_a_public_source_cannot_redirect_to_a_private_host() -> None:
    with http_server(lambda *_: (200, original(PATIENTS, label=None))) as private:
        moved = private.replace("127.0.0.1", "localhost")
        with http_server(lambda *_: (302, b"", {"Location": f"{moved}/table"})) as url:
            entry = replace(
                declared_dataset("heart-cleveland"), digest=PATIENTS.digest, url=f"{url}/table"
            )
            with pytest.raises(Unavailable, match="localhost is not a public host"):
                load(entry, settings_for(fetch=True))


def test_without_mirror_and_source_the_synthetic_patients_are_loaded() -> None:
    names = ["heart-cleveland", "heart-cleveland-recoded", "heart-synthetic"]
    closed = replace(declared_dataset("heart-cleveland"), url="http://127.0.0.1:9/closed")
    loaded = first_available(
        [closed, *(declared_dataset(name) for name in names[1:])], settings_for(fetch=True)
    )
    entry, table = loaded.entry, loaded.table
    assert loaded.source_kind == "generator"
    assert entry.name == "heart-synthetic"
    assert entry.synthetic
    assert table.digest == synthetic_heart().digest


def test_a_dataset_without_an_available_source_is_named_with_the_reasons() -> None:
    closed = replace(declared_dataset("heart-cleveland"), url="http://127.0.0.1:9/closed")
    with pytest.raises(
        Unavailable,
        match=r"heart-cleveland is not available: SLIPWAY_DATA .* http://127.0.0.1:9/closed is not",
    ):
        load(closed, settings_for(fetch=True))


def test_a_mirror_with_other_rows_is_refused_and_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "heart_cleveland.csv").write_bytes(FILE)
    with pytest.raises(
        WrongDigest,
        match=(
            r"heart_cleveland.csv is not the dataset heart-cleveland: "
            r"its 60 rows have the digest"
        ),
    ):
        first_available(
            [declared_dataset(f"heart-{name}") for name in ("cleveland", "synthetic")],
            settings_for(tmp_path),
        )


def test_digits_are_those_of_scikit_learn() -> None:
    table = load(declared_dataset("digits"), settings_for())
    assert table.features.shape == (1797, 64)
    assert (table.features.min(), table.features.max()) == (0, 16)


def test_the_generator_depends_on_the_seed_alone() -> None:
    assert (
        synthetic_heart(seed=1).digest
        == synthetic_heart(seed=1).digest
        != synthetic_heart(seed=2).digest
    )


def test_the_real_table_has_the_declared_digest(settings: Settings) -> None:
    if settings.data is None:
        pytest.skip("SLIPWAY_DATA is not set")
    table = load(declared_dataset("heart-cleveland"), settings)
    assert len(table) == 303
    assert table.labels.sum() == 139
