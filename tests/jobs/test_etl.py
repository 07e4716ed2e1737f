"""Raw sales into a real PostgreSQL, and back out of it as what a model knows."""

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
from slipway_jobs.__main__ import main
from slipway_jobs.datasets.sources import DATASETS, first_available, load
from slipway_jobs.errors import CorruptTable, Refused, Unavailable, WarehouseError, WrongParameter
from slipway_jobs.sales.etl import EtlOptions, etl, publish
from slipway_jobs.sales.features import COLUMNS, LOOKUP, REACH, FeatureRequest, features
from slipway_jobs.sales.history import of_warehouse
from slipway_jobs.sales.synthetic import SINCE, synthetic_rows, synthetic_sales
from slipway_jobs.sales.table import Sale
from slipway_jobs.sales.warehouse import warehouse
from slipway_jobs.settings import Settings

HEAD = "date,store,product,units,promotion,price"
DAYS = [date(2026, 1, 1) + timedelta(days=number) for number in range(60)]


@pytest.fixture
def told(postgres: str, tmp_path: Path) -> Iterator[Settings]:
    """Without a warehouse yet, and with an empty mirror."""
    forget(postgres)
    yield Settings(
        MLFLOW_TRACKING_URI="http://127.0.0.1:9", database_url=postgres, data=tmp_path, fetch=False
    )
    forget(postgres)


def forget(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DROP SCHEMA IF EXISTS warehouse CASCADE")


def lines(units: float = 5) -> list[str]:
    return [f"{day},Bremen,{name},{units},0,2" for day in DAYS for name in ("tea", "soup")]


def write(folder: Path, rows: list[str], head: str = HEAD) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def ask(url: str, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), values).fetchall()


def content(url: str) -> list[Any]:
    return ask(
        url,
        (
            "SELECT store_id, product_id, day, units, promotion, price, loaded FROM "
            "warehouse.sales ORDER BY 1, 2, 3"
        ),
    )


def test_the_same_sales_twice_change_nothing(told: Settings, postgres: str, tmp_path: Path) -> None:
    request = EtlOptions(write(tmp_path, lines()))
    first = etl(request, told)
    before = content(postgres)
    again = etl(request, told)
    assert (first["inserted"], first["changed"], first["unchanged"]) == (120, 0, 0)
    assert (again["inserted"], again["changed"], again["unchanged"]) == (0, 0, 120)
    assert content(postgres) == before
    assert first["newest"] == str(DAYS[-1])
    assert first["ageDays"] == (datetime.now(UTC).date() - DAYS[-1]).days


def test_a_late_correction_replaces_what_was_there(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    etl(EtlOptions(write(tmp_path, lines())), told)
    late = f"{DAYS[3]},Bremen,tea"
    found = etl(EtlOptions(write(tmp_path, [f"{late},9,1,3", f"{late},7,1,3"])), told)
    assert (found["inserted"], found["changed"]) == (0, 1)
    query = (
        "SELECT units FROM warehouse.sales JOIN warehouse.products USING (product_id) WHERE name "
        "= 'tea' AND day = %s"
    )
    assert ask(postgres, query, DAYS[3]) == [(7.0,)]  # of two rows with one key the last


def test_a_plan_takes_no_known_quantity_away_and_is_filled_in_later(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    tomorrow = DAYS[-1] + timedelta(days=1)
    etl(
        EtlOptions(
            write(tmp_path, [*lines(), f"{tomorrow},Bremen,tea,,1,1", f"{DAYS[0]},Bremen,tea,,1,1"])
        ),
        told,
    )
    query = (
        "SELECT units, promotion FROM warehouse.sales JOIN warehouse.products USING (product_id) "
        "WHERE name = 'tea' AND day = %s"
    )
    assert ask(postgres, query, tomorrow) == [(None, True)]
    assert ask(postgres, query, DAYS[0]) == [(5.0, False)]
    etl(EtlOptions(write(tmp_path, [f"{DAYS[0]},Bremen,tea,,1,1"])), told)
    assert ask(postgres, query, DAYS[0]) == [(5.0, True)]
    etl(EtlOptions(write(tmp_path, [f"{tomorrow},Bremen,tea,8,1,1"])), told)
    assert ask(postgres, query, tomorrow) == [(8.0, True)]


def test_rows_that_do_not_fit_are_counted_and_told_by_line(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    wrong = ["2026-01-99,Bremen,tea,1,0,2", f"{datetime.now(UTC).date()},Bremen,tea,1,0,2"]
    found = etl(EtlOptions(write(tmp_path, [*lines(), *wrong]), max_rejected=0.02), told)
    assert (found["rows"], found["inserted"], found["rejected"]) == (122, 120, 2)
    assert found["rejections"][0].startswith("line 122, column date: '2026-01-99' is not a day")
    assert "line 123, column units" in found["rejections"][1]
    assert "is not over" in found["rejections"][1]
    assert ask(postgres, "SELECT inserted, rejected FROM warehouse.loads") == [(120, 2)]


def test_with_too_many_of_them_nothing_is_changed(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    etl(EtlOptions(write(tmp_path, lines())), told)
    before = content(postgres)
    with pytest.raises(
        Refused,
        match=r"1\.6% of the rows do not fit, and --max-rejected is 1\.0%; the first: line 122",
    ):
        etl(EtlOptions(write(tmp_path, [*lines(6), "x", "y"])), told)
    with pytest.raises(Refused, match="no row fits"):
        etl(EtlOptions(write(tmp_path, ["x"]), max_rejected=1), told)
    with pytest.raises(CorruptTable, match="has no column price"):
        etl(
            EtlOptions(write(tmp_path, lines(), head="date,store,product,units,promotion,cost")),
            told,
        )
    assert content(postgres) == before


def test_generated_sales_are_never_mixed_with_others(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    mine = EtlOptions(write(tmp_path, lines()))
    etl(mine, told)
    with pytest.raises(
        Refused, match="the warehouse holds real sales, and these are generated; --replace"
    ):
        etl(EtlOptions(), told)
    found = etl(EtlOptions(replace=True), told)
    assert found["synthetic"]
    assert found["ageDays"] == 1
    assert ask(postgres, "SELECT synthetic FROM warehouse.feature_sets") == [(True,)]
    assert ask(postgres, "SELECT count(*) FROM warehouse.stores") == [(5,)]
    with pytest.raises(Refused, match="the warehouse holds generated sales, and these are real"):
        etl(mine, told)


@pytest.mark.slow
@given(number=st.integers(60, 400), ahead=st.integers(0, REACH - 1))
@hypothesis_settings(max_examples=8)
def test_the_rows_that_are_served_are_those_that_would_have_been_learnt_from(
    postgres: str, number: int, ahead: int
) -> None:
    """The whole way: to PostgreSQL and back, from what was known on a morning, against a table that
    knows what came later.
    """
    morning = SINCE + timedelta(days=number)
    since = morning - timedelta(days=60)
    with warehouse(postgres) as house:
        house.prepare()
        house.clear()
        house.stage(synthetic_rows(morning - timedelta(days=1), since=since))
        house.write()
        newest = house.newest()
        assert newest
        publish(house, newest, synthetic=True)
    day = newest + timedelta(days=1 + ahead)
    served = ask(
        postgres,
        "SELECT entity, vector FROM warehouse.features WHERE day = %s AND rank = 0 ORDER BY entity",
        day,
    )
    names = np.array([entity for entity, _ in served])
    everything = synthetic_sales(morning + timedelta(days=90), since=since)
    when = [np.full(len(names), np.datetime64(each)) for each in (day, newest + timedelta(days=1))]
    learnt = features(everything, FeatureRequest(names[:, 0], names[:, 1], *when))
    vectors = np.array([vector for _, vector in served], dtype=np.float32)
    assert len(names) >= 28
    assert np.array_equal(vectors, learnt, equal_nan=True)


def test_what_is_published_reaches_two_weeks_and_knows_of_strangers(
    told: Settings, postgres: str, tmp_path: Path
) -> None:
    found = etl(EtlOptions(write(tmp_path, lines())), told)
    assert found["features"] == {
        "name": LOOKUP.features,
        "from": "2026-03-02",
        "to": "2026-03-15",
        "rows": 14 * 6,
    }
    first = (
        "SELECT entity, vector FROM warehouse.features WHERE rank = %s AND day = %s ORDER BY entity"
    )
    known = [column.name for column in COLUMNS].index("known_28")
    product = [column.name for column in COLUMNS].index("product_mean")
    assert [entity for entity, _ in ask(postgres, first, 1, "2026-03-02")] == [
        ["*", "soup"],
        ["*", "tea"],
    ]
    (entity, vector) = ask(postgres, first, 1, "2026-03-02")[1]
    assert (vector[known], vector[product]) == (0, 5)
    (entity, vector) = ask(postgres, first, 3, "2026-03-02")[0]
    assert entity == ["*", "*"]
    assert np.isnan(vector[product])


def test_rows_are_taken_in_one_at_a_time(postgres: str) -> None:
    many = (
        Sale(line, date(2026, 1, 1), f"s{line % 300}", "tea", 1.0, False, None)
        for line in range(30_000)
    )
    with warehouse(postgres) as house:
        tracemalloc.start()
        assert house.stage(many) == 30_000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


def test_what_is_learnt_from_during_a_week_is_one_table(told: Settings, tmp_path: Path) -> None:
    etl(EtlOptions(write(tmp_path, lines())), told)  # through 2026-03-01, a Sunday
    found = first_available(
        [DATASETS[name] for name in ("sales-warehouse", "sales", "sales-synthetic")], told
    )
    entry, table = found.entry, found.table
    assert (entry.name, entry.synthetic) == ("sales-warehouse", False)
    monday = DAYS[-1] + timedelta(days=1)
    etl(EtlOptions(write(tmp_path, [f"{monday},Bremen,tea,9,0,2"])), told)
    assert load(DATASETS["sales-warehouse"], told).digest == table.digest
    assert table.times is not None
    assert table.times.max() == np.datetime64("2026-03-01")


def test_generated_sales_in_the_warehouse_are_not_taken_for_real_ones(told: Settings) -> None:
    with pytest.raises(Unavailable, match="there is no warehouse yet"):
        of_warehouse(told)
    etl(EtlOptions(), told)
    with pytest.raises(Unavailable, match="the warehouse holds generated sales"):
        of_warehouse(told)


def test_a_mirror_holds_sales_in_the_same_schema(told: Settings, tmp_path: Path) -> None:
    write(tmp_path, lines()).rename(tmp_path / "sales.csv")
    found = etl(EtlOptions(), told)
    assert (found["synthetic"], found["inserted"]) == (False, 120)
    assert len(load(DATASETS["sales"], told)) == 2 * (60 - 28)
    (tmp_path / "sales.csv").write_text("\n".join([HEAD, "2026-01-01,Bremen,tea,many,0,2"]))
    with pytest.raises(
        CorruptTable, match=r"sales\.csv line 2, column units: 'many' is not a number from 0"
    ):
        load(DATASETS["sales"], told)


def test_the_command_says_what_it_did_and_when_it_cannot(
    told: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", told.mlflow_tracking_uri)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", str(told.database_url))
    path = write(tmp_path, lines())
    assert main(["etl", "--file", str(path), "--time-zone", "Europe/Berlin"]) == 0
    assert json.loads(capsys.readouterr().out)["inserted"] == 120
    assert main(["etl", "--file", str(write(tmp_path, ["x"]))]) == 3
    assert "no row fits" in json.loads(capsys.readouterr().out)["reason"]
    assert main(["etl", "--time-zone", "Mars/Olympus"]) == 2
    assert main(["etl", "--max-rejected", "many"]) == 2
    assert main(["etl", "--file", str(tmp_path / "none.csv")]) == 1


def test_a_role_that_may_not_make_it_is_told_what_it_needs(told: Settings, postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    poor = told.model_copy(update={"database_url": postgres.replace("//postgres:@", "//reader:@")})
    assert poor.database_url != postgres
    with pytest.raises(WarehouseError, match="give the role the right CREATE on the database"):
        etl(EtlOptions(), poor)
    with pytest.raises(WrongParameter, match="SLIPWAY_DATABASE_URL"):
        etl(EtlOptions(), told.model_copy(update={"database_url": None}))
