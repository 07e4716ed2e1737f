"""Sales: invalid files, the generator, and features that depend on the past alone."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from slipway.errors import CorruptTable, Leakage
from slipway.training.dataset import Floats
from slipway.training.installed import declared_dataset
from slipway.training.split import ByTime
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

SALES = synthetic_sales(SINCE + timedelta(days=150))
NAMES = [column.name for column in COLUMNS]
FILE = b"""\
date,store,product,units,promotion,price,remark
2026-01-01,Bremen,tea,3,0,4.40,
2026-01-02,Bremen,tea,2.5,1,,cheap
2026-01-03,Bremen,tea,,true,3.50,planned
"""


def known(requested: FeatureRequest, sales: Sales = SALES) -> dict[str, float]:
    """Return the features of the requested row by name."""
    return dict(zip(NAMES, features(sales, requested)[0].tolist(), strict=True))


def request(store: str, product: str, day: str, made: str) -> FeatureRequest:
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
    ("old", "new", "expected"),
    [
        (b"2026-01-02", b"02.01.2026", "sales.csv line 3, column date: '02.01.2026' is not a date"),
        (b"2026-01-02,Bremen", b"2026-01-02,", "sales.csv line 3, column store: '' is not a name"),
        (b"Bremen,tea,2.5", b"Bremen,*,2.5", "sales.csv line 3, column product: '*' is not a name"),
        (b"2.5", b"-1", "sales.csv line 3, column units: '-1' is not a number from 0"),
        (b"2.5", b"2_5", "sales.csv line 3, column units: '2_5' is not a number from 0"),
        (b"2.5", b"nan", "sales.csv line 3, column units: 'nan' is not a number from 0"),
        (b"2.5,1", b"2.5,maybe", "sales.csv line 3, column promotion: 'maybe' is not 0 or 1"),
        (b"3.50", b"a lot", "sales.csv line 4, column price: 'a lot' is not a number from 0"),
        (b",cheap", b"", "sales.csv line 3, column 7: the line has 6 cells; the first line has 7"),
        (
            b"units",
            b"pieces",
            "sales.csv line 1: has no column units; it has date, store, product, pieces",
        ),
        (b"Bremen", b"Bremen\xff", "sales.csv: byte .* is not text in UTF-8"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_line_and_column(
    old: bytes, new: bytes, expected: str
) -> None:
    assert old in FILE
    with pytest.raises(CorruptTable, match=expected.replace("*'", r"\*'")):
        read_sales(FILE.replace(old, new), "sales.csv")


def test_generated_sales_have_gaps_seasons_promotions_and_levels() -> None:
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
    recorded_days = len(
        np.unique(sales.day[sold & (sales.store == "Bremen") & (sales.product == "bread")])
    )
    assert recorded_days < 731 - 10  # holidays, and days without a record


def test_a_longer_generated_period_extends_a_shorter_one() -> None:
    longer = synthetic_sales(SINCE + timedelta(days=170))
    overlap = longer.day <= SALES.newest
    sold = ~np.isnan(SALES.units)
    assert np.array_equal(longer.units[overlap], SALES.units[sold])
    assert np.array_equal(longer.promotion[overlap], SALES.promotion[sold])


def test_features_equal_manually_computed_values() -> None:
    facts = [
        ("Bremen", "tea", date(2026, 3, day), float(units), day == 9, None)
        for day, units in ((2, 10), (9, 30), (12, 8))
    ]
    other, plan = (
        ("Bremen", "soup", date(2026, 3, 9), 100.0, False, None),
        ("Bremen", "tea", date(2026, 3, 16), None, True, None),
    )
    sales = Sales.of([*facts, other, plan])
    requested = request("Bremen", "tea", "2026-03-16", "2026-03-14")  # a Monday, two days ahead
    found = known(requested, sales)
    assert {name: found[name] for name in ("last", "last_age", "mean_7", "mean_28", "weekday_mean",
    "known_28")} == {
        "last": 8, "last_age": 2, "mean_7": 19, "mean_28": 16, "weekday_mean": 20, "known_28": 3
    }  # fmt: skip
    assert found["promoted_28"] == pytest.approx(1 / 3)
    assert (found["product_mean"], found["store_mean"], found["overall_mean"]) == (16, 37, 37)
    assert (found["horizon"], found["weekday"], found["promotion"]) == (2, 0, 1)


def test_an_unknown_pair_has_the_means_of_others() -> None:
    day = str(SALES.newest + 1)
    store, product = (
        known(request("Nowhere", "bread", day, day)),
        known(request("Bremen", "gold", day, day)),
    )
    assert np.isnan(store["mean_28"])
    assert store["known_28"] == 0
    assert store["product_mean"] > 20
    assert np.isnan(store["store_mean"])
    assert np.isnan(product["product_mean"])
    assert product["store_mean"] > 5


@given(st.data())
@hypothesis_settings(max_examples=25)
def test_later_sales_change_no_feature_by_a_bit(data: st.DataObject) -> None:
    requested, _ = forecasts(SALES)
    index = data.draw(st.integers(0, len(requested) - 1))
    one = FeatureRequest(
        *(
            getattr(requested, name)[index : index + 1]
            for name in ("store", "product", "day", "made")
        )
    )
    later = np.flatnonzero(SALES.day >= one.made[0])
    units = SALES.units.copy()
    for position in data.draw(st.lists(st.sampled_from(later.tolist()), min_size=1, max_size=20)):
        units[position] = data.draw(st.one_of(st.just(np.nan), st.floats(0, 1e9)))
    assert features(SALES.with_units(units), one).tobytes() == features(SALES, one).tobytes()


def test_sales_of_the_day_before_change_the_features() -> None:
    day = str(SALES.newest)
    requested = request("Bremen", "bread", day, day)
    before = SALES.day == SALES.newest - 1
    changed = features(SALES.with_units(np.where(before, 1e6, SALES.units)), requested)
    differing = {
        NAMES[index] for index in np.flatnonzero(changed[0] != features(SALES, requested)[0])
    }
    assert differing >= {"last", "mean_7", "mean_28", "product_mean", "store_mean", "overall_mean"}


def test_features_do_not_depend_on_the_length_of_the_loaded_history() -> None:
    requested = request("Coburg", "soup", str(SALES.newest + 3), str(SALES.newest + 1))
    window = SALES.take(SALES.day > SALES.newest - WINDOW)
    assert features(window, requested).tobytes() == features(SALES, requested).tobytes()


def one_day_late(sales: Sales, requested: FeatureRequest) -> Floats:
    """Compute features one morning later, so that they see the day itself."""
    found = features(sales, replace(requested, made=requested.made + 1))
    found[:, NAMES.index("horizon")] += 1
    return found


def scaled_by_all_days(sales: Sales, requested: FeatureRequest) -> Floats:
    """Divide a feature by a mean that includes later days."""
    found = features(sales, requested)
    found[:, NAMES.index("mean_28")] /= np.float32(np.nanmean(sales.units))
    return found


def with_the_label(sales: Sales, requested: FeatureRequest) -> Floats:
    """Use the label as a feature."""
    found = features(sales, requested)
    sold = dict(
        zip(zip(sales.store, sales.product, sales.day, strict=True), sales.units, strict=True)
    )
    keys = zip(requested.store, requested.product, requested.day, strict=True)
    found[:, NAMES.index("last")] = [sold.get(key, np.nan) for key in keys]
    return found


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        (one_day_late, "last, .*mean_7, .*which were unknown that morning"),
        (scaled_by_all_days, "^mean_28: differ when sales from"),
        (with_the_label, "^last: differ when sales from"),
    ],
)
def test_training_detects_a_leaky_definition(definition: object, expected: str) -> None:
    with pytest.raises(Leakage, match=expected):
        history(SALES, definition)  # type: ignore[arg-type]


def test_the_real_definition_passes_the_check() -> None:
    requested, _ = forecasts(SALES)
    check_point_in_time(SALES, requested, features(SALES, requested))


def test_no_forecast_crosses_from_training_days_into_held_out_days() -> None:
    table = history(SALES)
    parts = ByTime(days=BLOCK, fold_days=BLOCK)
    split = parts.hold_out(table, None, "pair")  # type: ignore[arg-type]
    horizon = NAMES.index("horizon")
    assert split.test.times is not None
    assert split.train.times is not None
    mornings = split.test.times - split.test.features[:, horizon].astype(int)
    assert mornings.min() > split.train.times.max()
    assert set(np.unique(table.features[:, horizon])) == set(range(REACH))


def test_the_generated_history_is_reproducible() -> None:
    entry = declared_dataset("sales-synthetic")
    assert entry.synthetic
    assert history(SALES).digest == history(synthetic_sales(SINCE + timedelta(days=150))).digest
