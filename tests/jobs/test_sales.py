"""Sales: files that are refused by line and column, a generator, and features that know the past
alone.
"""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from slipway_jobs.data.dataset import Floats
from slipway_jobs.datasets.sources import DATASETS
from slipway_jobs.errors import CorruptTable, Leakage
from slipway_jobs.sales.features import (
    COLUMNS,
    REACH,
    WINDOW,
    FeatureRequest,
    check_point_in_time,
    features,
)
from slipway_jobs.sales.history import BLOCK, forecasts, history
from slipway_jobs.sales.synthetic import SINCE, synthetic_sales
from slipway_jobs.sales.table import Sales, read_sales
from slipway_jobs.tasks.split import ByTime

SALES = synthetic_sales(SINCE + timedelta(days=150))
NAMES = [column.name for column in COLUMNS]
FILE = b"""\
date,store,product,units,promotion,price,remark
2026-01-01,Bremen,tea,3,0,4.40,
2026-01-02,Bremen,tea,2.5,1,,cheap
2026-01-03,Bremen,tea,,true,3.50,planned
"""


def known(asked: FeatureRequest, sales: Sales = SALES) -> dict[str, float]:
    """By name, of the one row that is asked for."""
    return dict(zip(NAMES, features(sales, asked)[0].tolist(), strict=True))


def ask(store: str, product: str, day: str, made: str) -> FeatureRequest:
    return FeatureRequest(
        np.array([store]),
        np.array([product]),
        np.array([day], "datetime64[D]"),
        np.array([made], "datetime64[D]"),
    )


def test_a_file_is_read_by_the_names_of_its_columns() -> None:
    sales = read_sales(FILE, "sales.csv")
    assert sales.units.tolist()[:2] == [3, 2.5]
    assert np.isnan(sales.units[2])
    assert sales.promotion.tolist() == [False, True, True]
    assert np.isnan(sales.price[1])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"2026-01-02", b"02.01.2026", "sales.csv line 3, column date: '02.01.2026' is not a day"),
        (b"2026-01-02,Bremen", b"2026-01-02,", "sales.csv line 3, column store: '' is not a name"),
        (b"Bremen,tea,2.5", b"Bremen,*,2.5", "sales.csv line 3, column product: '*' is not a name"),
        (b"2.5", b"-1", "sales.csv line 3, column units: '-1' is not a number from 0"),
        (b"2.5", b"2_5", "sales.csv line 3, column units: '2_5' is not a number from 0"),
        (b"2.5", b"nan", "sales.csv line 3, column units: 'nan' is not a number from 0"),
        (b"2.5,1", b"2.5,maybe", "sales.csv line 3, column promotion: 'maybe' is not 0 or 1"),
        (b"3.50", b"a lot", "sales.csv line 4, column price: 'a lot' is not a number from 0"),
        (b",cheap", b"", "sales.csv line 3, column 7: there are 6 cells; the first line has 7"),
        (
            b"units",
            b"pieces",
            "sales.csv line 1: has no column units; it has date, store, product, pieces",
        ),
        (b"Bremen", b"Bremen\xff", "sales.csv: byte .* is not text in UTF-8"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_line_and_column(
    old: bytes, new: bytes, said: str
) -> None:
    assert old in FILE
    with pytest.raises(CorruptTable, match=said.replace("*'", r"\*'")):
        read_sales(FILE.replace(old, new), "sales.csv")


def test_generated_sales_have_gaps_seasons_promotions_and_levels_of_their_own() -> None:
    sales = synthetic_sales(date(2025, 12, 31))
    sold = ~np.isnan(sales.units)
    sundays = (sales.day.astype(int) + 3) % 7 == 6
    assert not (sundays & (sales.store == "Aachen")).any()
    assert (sundays & (sales.store == "Bremen")).any()
    ice = sold & (sales.product == "ice cream") & (sales.store == "Dresden")
    month = sales.day.astype("datetime64[M]").astype(int) % 12 + 1
    assert sales.units[ice & (month == 7)].mean() > 2 * sales.units[ice & (month == 1)].mean()
    bread = sold & (sales.product == "bread")
    assert (
        sales.units[bread & sales.promotion].mean()
        > 1.2 * sales.units[bread & ~sales.promotion].mean()
    )
    assert sales.units[bread].mean() > 20 * sales.units[sold & (sales.product == "umbrella")].mean()
    days_written = len(
        np.unique(sales.day[sold & (sales.store == "Bremen") & (sales.product == "bread")])
    )
    assert days_written < 731 - 10  # holidays, and days that nobody wrote down


def test_who_generates_more_days_gets_the_same_ones_and_more() -> None:
    longer = synthetic_sales(SINCE + timedelta(days=170))
    there = longer.day <= SALES.newest
    sold = ~np.isnan(SALES.units)
    assert np.array_equal(longer.units[there], SALES.units[sold])
    assert np.array_equal(longer.promotion[there], SALES.promotion[sold])


def test_features_are_what_one_would_write_down_by_hand() -> None:
    facts = [
        ("Bremen", "tea", date(2026, 3, day), float(units), day == 9, None)
        for day, units in ((2, 10), (9, 30), (12, 8))
    ]
    other, plan = (
        ("Bremen", "soup", date(2026, 3, 9), 100.0, False, None),
        ("Bremen", "tea", date(2026, 3, 16), None, True, None),
    )
    sales = Sales.of([*facts, other, plan])
    asked = ask("Bremen", "tea", "2026-03-16", "2026-03-14")  # a Monday, two days ahead
    found = known(asked, sales)
    assert {name: found[name] for name in ("last", "last_age", "mean_7", "mean_28", "weekday_mean",
    "known_28")} == {
        "last": 8, "last_age": 2, "mean_7": 19, "mean_28": 16, "weekday_mean": 20, "known_28": 3
    }  # fmt: skip
    assert found["promoted_28"] == pytest.approx(1 / 3)
    assert (found["product_mean"], found["store_mean"], found["overall_mean"]) == (16, 37, 37)
    assert (found["horizon"], found["weekday"], found["promotion"]) == (2, 0, 1)


def test_of_a_pair_that_nobody_knows_the_means_of_others_are_known() -> None:
    day = str(SALES.newest + 1)
    store, product = (
        known(ask("Nowhere", "bread", day, day)),
        known(ask("Bremen", "gold", day, day)),
    )
    assert np.isnan(store["mean_28"])
    assert store["known_28"] == 0
    assert store["product_mean"] > 20
    assert np.isnan(store["store_mean"])
    assert np.isnan(product["product_mean"])
    assert product["store_mean"] > 5


@given(st.data())
@hypothesis_settings(max_examples=25)
def test_whatever_happens_from_the_morning_on_changes_no_feature_by_a_bit(
    data: st.DataObject,
) -> None:
    asked, _ = forecasts(SALES)
    index = data.draw(st.integers(0, len(asked) - 1))
    one = FeatureRequest(
        *(getattr(asked, name)[index : index + 1] for name in ("store", "product", "day", "made"))
    )
    later = np.flatnonzero(SALES.day >= one.made[0])
    units = SALES.units.copy()
    for position in data.draw(st.lists(st.sampled_from(later.tolist()), min_size=1, max_size=20)):
        units[position] = data.draw(st.one_of(st.just(np.nan), st.floats(0, 1e9)))
    assert features(SALES.with_units(units), one).tobytes() == features(SALES, one).tobytes()


def test_what_happened_the_day_before_does_change_them() -> None:
    day = str(SALES.newest)
    asked = ask("Bremen", "bread", day, day)
    before = SALES.day == SALES.newest - 1
    changed = features(SALES.with_units(np.where(before, 1e6, SALES.units)), asked)
    differing = {NAMES[index] for index in np.flatnonzero(changed[0] != features(SALES, asked)[0])}
    assert differing >= {"last", "mean_7", "mean_28", "product_mean", "store_mean", "overall_mean"}


def test_features_do_not_depend_on_how_much_of_the_past_is_loaded() -> None:
    asked = ask("Coburg", "soup", str(SALES.newest + 3), str(SALES.newest + 1))
    window = SALES.take(SALES.day > SALES.newest - WINDOW)
    assert features(window, asked).tobytes() == features(SALES, asked).tobytes()


def one_day_late(sales: Sales, asked: FeatureRequest) -> Floats:
    """The morning after: the day itself is seen."""
    found = features(sales, replace(asked, made=asked.made + 1))
    found[:, NAMES.index("horizon")] += 1
    return found


def scaled_by_all_of_time(sales: Sales, asked: FeatureRequest) -> Floats:
    """Divided by a mean over everything, the days to come included."""
    found = features(sales, asked)
    found[:, NAMES.index("mean_28")] /= np.float32(np.nanmean(sales.units))
    return found


def peeping_at_the_label(sales: Sales, asked: FeatureRequest) -> Floats:
    """What is asked for, as a feature."""
    found = features(sales, asked)
    sold = dict(
        zip(zip(sales.store, sales.product, sales.day, strict=True), sales.units, strict=True)
    )
    keys = zip(asked.store, asked.product, asked.day, strict=True)
    found[:, NAMES.index("last")] = [sold.get(key, np.nan) for key in keys]
    return found


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (one_day_late, "last, .*mean_7, .*which nobody knew that morning"),
        (scaled_by_all_of_time, "^mean_28: differ when sales from"),
        (peeping_at_the_label, "^last: differ when sales from"),
    ],
)
def test_a_leaky_definition_is_found_by_the_check_that_the_training_makes(
    definition: object, said: str
) -> None:
    with pytest.raises(Leakage, match=said):
        history(SALES, definition)  # type: ignore[arg-type]


def test_the_check_lets_the_real_definition_pass() -> None:
    asked, _ = forecasts(SALES)
    check_point_in_time(SALES, asked, features(SALES, asked))


def test_no_forecast_reaches_from_the_training_days_into_the_held_out_ones() -> None:
    table = history(SALES)
    parts = ByTime(days=BLOCK, fold_days=BLOCK)
    split = parts.hold_out(table, None, "pair")  # type: ignore[arg-type]
    horizon = NAMES.index("horizon")
    assert split.test.times is not None
    assert split.train.times is not None
    mornings = split.test.times - split.test.features[:, horizon].astype(int)
    assert mornings.min() > split.train.times.max()
    assert set(np.unique(table.features[:, horizon])) == set(range(REACH))


def test_the_generated_history_is_one_table_each_time() -> None:
    entry = DATASETS["sales-synthetic"]
    assert entry.synthetic
    assert history(SALES).digest == history(synthetic_sales(SINCE + timedelta(days=150))).digest
