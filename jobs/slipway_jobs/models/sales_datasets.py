"""The datasets of sales."""

from slipway.training.dataset import Dataset

from slipway_jobs.sales.etl import FILE
from slipway_jobs.sales.features import COLUMNS
from slipway_jobs.sales.history import UNTIL, of_file, of_generator, of_warehouse
from slipway_jobs.sales.synthetic import SEED

_YOURS = "as your own data"
_NO_CITATION = "none: your own"

SALES_WAREHOUSE = Dataset(
    name="sales-warehouse",
    title="Sales in the warehouse, through the last Sunday",
    source="tables of the schema warehouse, filled by the Job etl",
    licence=_YOURS,
    citation=_NO_CITATION,
    subject="pair of store and product",
    columns=COLUMNS,
    query=of_warehouse,
)

SALES = Dataset(
    name="sales",
    title="Sales in a file of raw rows",
    source=f"{FILE} in the mirror folder",
    licence=_YOURS,
    citation=_NO_CITATION,
    subject="pair of store and product",
    columns=COLUMNS,
    files=(FILE,),
    read=of_file,
)

SALES_SYNTHETIC = Dataset(
    name="sales-synthetic",
    title=f"Synthetic: 5 stores and 8 products, from 2024 to {UNTIL}",
    source=f"slipway_jobs.sales.synthetic, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by Slipway's generator; not valid for trade",
    subject="pair of store and product",
    columns=COLUMNS,
    make=of_generator,
    synthetic=True,
)
