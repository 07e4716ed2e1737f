"""The dataset store: tables in MLflow by their digest.

A version can thus be scored after the source of its data has changed. Each table is a finished run
of the experiment ``datasets`` with ``table.parquet`` and ``dataset.json``.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from slipway.errors import CorruptTable, WrongDigest
from slipway.registry.tracking import Tracking
from slipway.training.dataset import Dataset, Features, Loaded, Table
from slipway_contract.registry import Tag
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype, element_count

logger = logging.getLogger(__name__)

EXPERIMENT = "datasets"
TABLE_FILE = "table.parquet"
ENTRY_FILE = "dataset.json"
# Columns besides the inputs; no input has a dot in its name.
_LABEL, _SUBJECT, _DAY = "row.label", "row.subject", "row.day"


@dataclass(frozen=True)
class Stored:
    """The run that has a table; ``new`` when it was created now."""

    run_id: str
    new: bool


def store_table(loaded: Loaded, tracking: Tracking) -> Stored:
    """Store the table unless it is stored already."""
    entry, table = loaded.entry, loaded.table
    tags = {Tag.DATASET.value: entry.name, Tag.DATASET_DIGEST.value: table.digest}
    if found := tracking.finished_run(EXPERIMENT, tags):
        return Stored(found, new=False)
    tags_of_table = {
        **tags,
        Tag.DATASET_LICENCE: entry.licence,
        Tag.DATASET_SOURCE: entry.source,
        Tag.DATASET_SOURCE_KIND: loaded.source_kind,
    }
    with (
        tracking.run(EXPERIMENT, entry.name, tags_of_table) as run,
        tempfile.TemporaryDirectory() as temporary,
    ):
        path = Path(temporary) / TABLE_FILE
        write_table(table, entry, path)
        run.log(metrics={"rows": len(table), "subjects": len(np.unique(table.groups))})
        run.log_dataset(entry.name, entry.source, entry.source_type, table.digest, "storing")
        run.log_files({ENTRY_FILE: json.dumps(_description(entry, table), indent=1)})
        run.upload(path)
    logger.info("dataset %s, %s: stored in run %s", entry.name, table.digest, run.id)
    return Stored(run.id, new=True)


def stored_table(name: str, digest: str, tracking: Tracking) -> Table | None:
    """Return the table with that digest, or None if it is not stored.

    Raises WrongDigest when the stored content has another digest.
    """
    run_id = tracking.finished_run(
        EXPERIMENT, {Tag.DATASET.value: name, Tag.DATASET_DIGEST.value: digest}
    )
    if run_id is None:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        table = read_table(tracking.download_file(run_id, TABLE_FILE, Path(temporary)))
    if table.digest != digest:
        raise WrongDigest(
            f"{TABLE_FILE} of run {run_id} has the digest {table.digest}; {digest} of {name} "
            "is expected"
        )
    logger.info("dataset %s: %d rows from run %s, %s", name, len(table), run_id, digest)
    return table


def write_table(table: Table, entry: Dataset, path: Path) -> None:
    """Write the table as Parquet.

    It has a column for each input, vectors as lists of fixed length and missing values as null,
    then label, subject and day.
    """
    arrays: dict[str, pa.Array] = {}
    start = 0
    for column in _columns(entry, table):
        width = element_count(column.shape)
        arrays[column.name] = _packed(column, table.features[:, start : start + width])
        start += width
    if start != table.features.shape[1]:
        raise ValueError(
            f"the columns of {entry.name} have {start} values per row; its table has "
            f"{table.features.shape[1]}"
        )
    arrays[_LABEL] = pa.array(table.labels)
    if not np.array_equal(table.groups, table.keys):
        arrays[_SUBJECT] = pa.array([group.decode() for group in table.groups.tolist()])
    if table.times is not None:
        arrays[_DAY] = pa.array(table.times)
    tags_of_table = {"slipway": json.dumps(_description(entry, table))}
    pq.write_table(
        pa.table(arrays).replace_schema_metadata(tags_of_table), path, compression="zstd"
    )


def read_table(path: Path) -> Table:
    """Read a table that ``write_table`` wrote. Raises CorruptTable."""
    try:
        found = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise CorruptTable(f"{path.name} cannot be read as Parquet: {error}") from None
    inputs = [name for name in found.column_names if name not in (_LABEL, _SUBJECT, _DAY)]
    features = np.concatenate([_unpacked(found[name].combine_chunks()) for name in inputs], axis=1)
    subjects = found[_SUBJECT].to_pylist() if _SUBJECT in found.column_names else None
    days = found[_DAY].to_numpy() if _DAY in found.column_names else None
    return Table.of(features, found[_LABEL].to_numpy(), subjects, days)


def _columns(entry: Dataset, table: Table) -> list[Column]:
    if entry.columns:
        return list(entry.columns)
    datatype = Datatype.BYTES if table.features.dtype == object else Datatype.FP32
    return [Column(name="features", datatype=datatype, shape=(table.features.shape[1],))]


def _packed(column: Column, part: Features) -> pa.Array:
    flat = pa.array(
        part.ravel(), type=pa.string() if part.dtype == object else pa.float32(), from_pandas=True
    )
    return pa.FixedSizeListArray.from_arrays(flat, part.shape[1]) if column.shape else flat


def _unpacked(array: pa.Array) -> Features:
    width = array.type.list_size if pa.types.is_fixed_size_list(array.type) else 1
    flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, width)


def _description(entry: Dataset, table: Table) -> dict[str, Any]:
    """Return the dataset's declaration as JSON."""
    return {
        "name": entry.name,
        "title": entry.title,
        "source": entry.source,
        "licence": entry.licence,
        "citation": entry.citation,
        "synthetic": entry.synthetic,
        "digest": table.digest,
        "rows": len(table),
        "subject": entry.subject,
        "schema": [
            column.model_dump(mode="json", exclude_defaults=True)
            for column in _columns(entry, table)
        ],
    }
