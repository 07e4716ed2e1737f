"""The Job ``etl`` with a real PostgreSQL, and the features that it stores."""

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from slipway.errors import CorruptTable, Refused, Unavailable, WrongParameter
from slipway.training.installed import declared_dataset
from slipway_jobs.__main__ import main
from slipway_jobs.datasets.sources import first_available, load
from slipway_jobs.errors import WarehouseError
from slipway_jobs.sales.etl import EtlOptions, etl, publish
from slipway_jobs.sales.features import COLUMNS, LOOKUP, REACH, FeatureRequest, features
from slipway_jobs.sales.history import of_warehouse
from slipway_jobs.sales.synthetic import SINCE, synthetic_rows, synthetic_sales
from slipway_jobs.sales.table import Sale
from slipway_jobs.sales.warehouse import warehouse
from slipway_jobs.settings import Settings

from tests.support.waiting import avoid_midnight

HEAD = "date,store,product,units,promotion,price"
DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(60)]


@pytest.fixture
def settings(postgres: str, tmp_path: Path) -> Iterator[Settings]:
    """Return settings without a warehouse, and with an empty mirror."""
    drop_warehouse(postgres)
    yield Settings(
        MLFLOW_TRACKING_URI="http://127.0.0.1:9", database_url=postgres, data=tmp_path, fetch=False
    )
    drop_warehouse(postgres)


def drop_warehouse(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS warehouse CASCADE")
        connection.execute("DELETE FROM feature_sets")


def lines(units: float = 5) -> list[str]:
    return [f"{day},Bremen,{name},{units},0,2" for day in DAYS for name in ("tea", "soup")]


def write(folder: Path, rows: list[str], head: str = HEAD) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def query_rows(url: str, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), values).fetchall()


def content(url: str) -> list[Any]:
    return query_rows(
        url,
        (
            "SELECT store_id, product_id, day, units, promotion, price, loaded FROM "
            "warehouse.sales ORDER BY 1, 2, 3"
        ),
    )


def test_a_repeated_load_changes_nothing(settings: Settings, postgres: str, tmp_path: Path) -> None:
    avoid_midnight()
    request = EtlOptions(write(tmp_path, lines()))
    first = etl(request, settings)
    before = content(postgres)
    again = etl(request, settings)
    assert (first["inserted"], first["changed"], first["unchanged"]) == (120, 0, 0)
    assert (again["inserted"], again["changed"], again["unchanged"]) == (0, 0, 120)
    assert content(postgres) == before
    assert first["newest"] == str(DAYS[-1])
    assert first["ageDays"] == (datetime.now(UTC).date() - DAYS[-1]).days


def test_a_late_correction_replaces_the_stored_row(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    etl(EtlOptions(write(tmp_path, lines())), settings)
    late = f"{DAYS[3]},Bremen,tea"
    found = etl(EtlOptions(write(tmp_path, [f"{late},9,1,3", f"{late},7,1,3"])), settings)
    assert (found["inserted"], found["changed"]) == (0, 1)
    query = (
        "SELECT units FROM warehouse.sales JOIN warehouse.products USING (product_id) WHERE name "
        "= 'tea' AND day = %s"
    )
    assert query_rows(postgres, query, DAYS[3]) == [(7.0,)]  # the last of two rows with one key


def test_a_plan_keeps_a_known_quantity_and_is_completed_later(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    tomorrow = DAYS[-1] + timedelta(days=1)
    etl(
        EtlOptions(
            write(tmp_path, [*lines(), f"{tomorrow},Bremen,tea,,1,1", f"{DAYS[0]},Bremen,tea,,1,1"])
        ),
        settings,
    )
    query = (
        "SELECT units, promotion FROM warehouse.sales JOIN warehouse.products USING (product_id) "
        "WHERE name = 'tea' AND day = %s"
    )
    assert query_rows(postgres, query, tomorrow) == [(None, True)]
    assert query_rows(postgres, query, DAYS[0]) == [(5.0, False)]
    etl(EtlOptions(write(tmp_path, [f"{DAYS[0]},Bremen,tea,,1,1"])), settings)
    assert query_rows(postgres, query, DAYS[0]) == [(5.0, True)]
    etl(EtlOptions(write(tmp_path, [f"{tomorrow},Bremen,tea,8,1,1"])), settings)
    assert query_rows(postgres, query, tomorrow) == [(8.0, True)]


def test_invalid_rows_are_counted_and_listed_by_line(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    avoid_midnight()
    wrong = ["2026-01-99,Bremen,tea,1,0,2", f"{datetime.now(UTC).date()},Bremen,tea,1,0,2"]
    found = etl(EtlOptions(write(tmp_path, [*lines(), *wrong]), max_rejected=0.02), settings)
    assert (found["rows"], found["inserted"], found["rejected"]) == (122, 120, 2)
    assert found["rejections"][0].startswith("line 122, column date: '2026-01-99' is not a date")
    assert "line 123, column units" in found["rejections"][1]
    assert "is not over" in found["rejections"][1]
    assert query_rows(postgres, "SELECT inserted, rejected FROM warehouse.loads") == [(120, 2)]


def test_too_many_invalid_rows_change_nothing(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    etl(EtlOptions(write(tmp_path, lines())), settings)
    before = content(postgres)
    with pytest.raises(
        Refused,
        match=r"1\.6% of the rows are invalid, and --max-rejected is 1\.0%; the first: line 122",
    ):
        etl(EtlOptions(write(tmp_path, [*lines(6), "x", "y"])), settings)
    with pytest.raises(Refused, match="has no valid row"):
        etl(EtlOptions(write(tmp_path, ["x"]), max_rejected=1), settings)
    with pytest.raises(CorruptTable, match="has no column price"):
        etl(
            EtlOptions(write(tmp_path, lines(), head="date,store,product,units,promotion,cost")),
            settings,
        )
    assert content(postgres) == before


def test_generated_sales_are_never_mixed_with_others(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    mine = EtlOptions(write(tmp_path, lines()))
    etl(mine, settings)
    with pytest.raises(
        Refused, match="the warehouse has real sales, and these are generated; set --replace"
    ):
        etl(EtlOptions(), settings)
    found = etl(EtlOptions(replace=True), settings)
    assert found["synthetic"]
    assert found["ageDays"] == 1
    assert query_rows(postgres, "SELECT synthetic FROM feature_sets") == [(True,)]
    assert query_rows(postgres, "SELECT count(*) FROM warehouse.stores") == [(5,)]
    with pytest.raises(Refused, match="the warehouse has generated sales, and these are real"):
        etl(mine, settings)


@pytest.mark.slow
@given(number=st.integers(60, 400), ahead=st.integers(0, REACH - 1))
@hypothesis_settings(max_examples=8)
def test_served_features_equal_those_of_the_training(
    postgres: str, number: int, ahead: int
) -> None:
    """Features from PostgreSQL, computed on a morning, equal those of a table with later sales."""
    morning = SINCE + timedelta(days=number)
    since = morning - timedelta(days=60)
    with warehouse(postgres) as db:
        db.prepare()
        db.clear()
        db.stage(synthetic_rows(morning - timedelta(days=1), since=since))
        db.write()
        newest = db.newest()
        assert newest
        publish(db, newest, synthetic=True)
    day = newest + timedelta(days=1 + ahead)
    served = query_rows(
        postgres,
        "SELECT key, vector FROM feature_rows WHERE key[3] = %s AND NOT '*' = ANY(key) "
        "ORDER BY key",
        str(day),
    )
    names = np.array([key for key, _ in served])
    everything = synthetic_sales(morning + timedelta(days=90), since=since)
    when = [np.full(len(names), np.datetime64(each)) for each in (day, newest + timedelta(days=1))]
    trained = features(everything, FeatureRequest(names[:, 0], names[:, 1], *when))
    vectors = np.array([vector for _, vector in served], dtype=np.float32)
    assert len(names) >= 28
    assert np.array_equal(vectors, trained, equal_nan=True)


def test_published_features_cover_two_weeks_and_unknown_pairs(
    settings: Settings, postgres: str, tmp_path: Path
) -> None:
    found = etl(EtlOptions(write(tmp_path, lines())), settings)
    assert found["features"] == {
        "name": LOOKUP.features,
        "from": "2026-03-02",
        "to": "2026-03-15",
        "rows": 14 * 6,
    }
    rows = query_rows(
        postgres, "SELECT key, vector FROM feature_rows WHERE key[3] = '2026-03-02' ORDER BY key"
    )
    known = [column.name for column in COLUMNS].index("known_28")
    product = [column.name for column in COLUMNS].index("product_mean")
    assert [key[:2] for key, _ in rows] == [
        ["*", "*"],
        ["*", "soup"],
        ["*", "tea"],
        ["Bremen", "*"],
        ["Bremen", "soup"],
        ["Bremen", "tea"],
    ]
    assert rows[0][1][product] is None
    assert (rows[2][1][known], rows[2][1][product]) == (0, 5)


def test_rows_are_staged_one_at_a_time(postgres: str) -> None:
    many = (
        Sale(line, date(2026, 1, 1), f"s{line % 300}", "tea", 1.0, False, None)
        for line in range(30_000)
    )
    with warehouse(postgres) as db:
        tracemalloc.start()
        assert db.stage(many) == 30_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


def test_trainings_within_a_week_have_one_table(settings: Settings, tmp_path: Path) -> None:
    etl(EtlOptions(write(tmp_path, lines())), settings)  # through 2026-03-01, a Sunday
    found = first_available(
        [declared_dataset(name) for name in ("sales-warehouse", "sales", "sales-synthetic")],
        settings,
    )
    entry, table = found.entry, found.table
    assert (entry.name, entry.synthetic) == ("sales-warehouse", False)
    monday = DAYS[-1] + timedelta(days=1)
    etl(EtlOptions(write(tmp_path, [f"{monday},Bremen,tea,9,0,2"])), settings)
    assert load(declared_dataset("sales-warehouse"), settings).digest == table.digest
    assert table.times is not None
    assert table.times.max() == np.datetime64("2026-03-01")


def test_generated_sales_in_the_warehouse_are_not_used_as_real_ones(settings: Settings) -> None:
    with pytest.raises(Unavailable, match="the warehouse does not exist"):
        of_warehouse(settings)
    etl(EtlOptions(), settings)
    with pytest.raises(Unavailable, match="the warehouse has generated sales"):
        of_warehouse(settings)


def test_a_mirror_has_sales_in_the_same_schema(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path, lines()).rename(tmp_path / "sales.csv")
    found = etl(EtlOptions(), settings)
    assert (found["synthetic"], found["inserted"]) == (False, 120)
    assert len(load(declared_dataset("sales"), settings)) == 2 * (60 - 28)
    (tmp_path / "sales.csv").write_text("\n".join([HEAD, "2026-01-01,Bremen,tea,many,0,2"]))
    with pytest.raises(
        CorruptTable, match=r"sales\.csv line 2, column units: 'many' is not a number from 0"
    ):
        load(declared_dataset("sales"), settings)


def test_the_command_reports_its_result_or_its_error(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", str(settings.database_url))
    path = write(tmp_path, lines())
    assert main(["etl", "--file", str(path), "--time-zone", "Europe/Berlin"]) == 0
    assert json.loads(capsys.readouterr().out)["inserted"] == 120
    assert main(["etl", "--file", str(write(tmp_path, ["x"]))]) == 3
    assert "has no valid row" in json.loads(capsys.readouterr().out)["reason"]
    assert main(["etl", "--time-zone", "Mars/Olympus"]) == 2
    assert main(["etl", "--max-rejected", "many"]) == 2
    assert main(["etl", "--file", str(tmp_path / "none.csv")]) == 1


def test_a_role_without_the_right_to_create_gets_the_remedy(
    settings: Settings, postgres: str
) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    unprivileged = settings.model_copy(
        update={"database_url": postgres.replace("//postgres:@", "//reader:@")}
    )
    assert unprivileged.database_url != postgres
    with pytest.raises(WarehouseError, match="give the role the right CREATE on the database"):
        etl(EtlOptions(), unprivileged)
    with pytest.raises(WrongParameter, match="SLIPWAY_DATABASE_URL"):
        etl(EtlOptions(), settings.model_copy(update={"database_url": None}))
