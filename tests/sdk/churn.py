"""A user's model: a pipeline over a data frame with numbers, texts, categories and gaps."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CITIES = ("Bonn", "Essen", "Köln")
NOTES = ("great service, thanks!", "too slow and EXPENSIVE", "Größe x_1 don't fit", "cancelled")


def customers(count: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """Return customers with missing fees, cities and channels, and whether each has left."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "monthly fee": random.normal(50, 20, count).round(2),
            "age": random.integers(18, 80, count),
            "active": random.random(count) > 0.4,
            "city": random.choice(CITIES, count),
            "channel": random.choice(["web", "shop"], count),
            "note": random.choice(NOTES, count),
            "plan": pd.Categorical(random.choice(["basic", "gold"], count)),
        }
    )
    score = (table["age"] - 50) / 10 + (table["note"] == NOTES[1]) * 2 + table["active"]
    table.loc[::7, "monthly fee"] = np.nan
    table.loc[::5, "city"] = None
    table.loc[::9, "channel"] = None
    left = score + random.normal(0, 1, count) > 0.5
    return table, pd.Series(np.where(left, "leaves", "stays"))


def pipeline() -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["monthly fee", "age"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["city", "plan", "active"]),
            (
                "channel",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
                ["channel"],
            ),
            ("note", TfidfVectorizer(), "note"),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


def fitted() -> tuple[Any, pd.DataFrame, pd.DataFrame, pd.Series]:
    """Return the fitted pipeline, its training rows, and held-out rows with their labels."""
    table, left = customers()
    model = pipeline().fit(table[:300], left[:300])
    return model, table[:300], table[300:], left[300:]
