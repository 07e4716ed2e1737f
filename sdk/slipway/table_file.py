"""Files of rows: CSV and Parquet."""

from pathlib import Path

import pandas as pd

from slipway.errors import WrongParameter


def read_rows(path: Path) -> pd.DataFrame:
    """Return the table in a file of CSV or Parquet. Raises WrongParameter."""
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise WrongParameter(
            f"{path}: is not a table that can be read: {str(error)[:200]}; give CSV or Parquet"
        ) from error
