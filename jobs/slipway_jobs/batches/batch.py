"""Predict a whole file. What is done is kept part by part, so a Job that is killed goes on where it was."""

import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.batches.batch_store import BatchStore
from slipway_jobs.batches.predictor import Predictor, RowsRefused
from slipway_jobs.data.table_file import Row, TableFile
from slipway_jobs.errors import CorruptTable, WrongParameter
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

_ARROW = {
    Datatype.BOOL: pa.bool_(), Datatype.BYTES: pa.string(),
    Datatype.INT8: pa.int8(), Datatype.INT16: pa.int16(), Datatype.INT32: pa.int32(), Datatype.INT64: pa.int64(),
    Datatype.UINT8: pa.uint8(), Datatype.UINT16: pa.uint16(), Datatype.UINT32: pa.uint32(), Datatype.UINT64: pa.uint64(),
    Datatype.FP16: pa.float32(), Datatype.FP32: pa.float32(), Datatype.FP64: pa.float64(),
}  # fmt: skip


def predict_batch(batch_id: str, settings: Settings) -> dict[str, Any]:
    """The result as JSON. Raises JobError; whatever was done before is kept."""
    if settings.database_url is None:
        raise WrongParameter("SLIPWAY_DATABASE_URL: is not set; set it to the database of the gateway")
    store = BatchStore(settings.database_url, batch_id)
    batch = store.batch()
    said = {"batch": batch_id, "model": batch.model, "version": batch.version}
    if batch.finished:
        return {"state": "unchanged", **said}
    token = settings.predictor_token.get_secret_value() if settings.predictor_token else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store.input(folder / "input")
        predictor = Predictor(batch.url, batch.service, batch.digest, token)
        try:
            table = TableFile(folder / "input", batch.format, predictor.signature)
            rows = table.count()
            parts = _predict_parts(table, store, store.begin(rows), predictor)
        except CorruptTable as error:  # no failure of the Job: another attempt would read the same file
            store.refuse(str(error))
            return {"state": "unreadable", "reason": str(error), **said}
        finally:
            predictor.close()
        _assemble(store, parts, _schema(predictor.signature), folder / "result")
        store.finish(folder / "result")
    return {"state": "predicted", "rows": rows, **said}


def _predict_parts(table: TableFile, store: BatchStore, done: set[int], predictor: Predictor) -> int:
    """How many parts there are."""
    schema, number = _schema(predictor.signature), -1
    start = 0
    for number, chunk in enumerate(table.chunks()):
        if number not in done:
            rows = predict_rows(chunk, predictor)
            for index, row in enumerate(rows):
                row["row"] = start + index
            content = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows, schema), content)
            failed = sum(row["error"] is not None for row in rows)
            store.add_part(number, content.getvalue(), len(rows), failed)
            logger.info("part %d: %d rows, %d of them with an error", number, len(rows), failed)
        start += len(chunk)
    return number + 1


def predict_rows(chunk: Sequence[Row], predictor: Predictor) -> list[dict[str, Any]]:
    """Each row's outputs, or its ``error``. Rows that fit are asked for together; one that does not spoils no other."""
    found: list[dict[str, Any]] = [{"error": row.problem} for row in chunk]
    good = [index for index, row in enumerate(chunk) if row.problem is None]
    for index in list(good):
        try:
            predictor.signature.request([chunk[index].values])
        except InvalidInput as error:
            found[index]["error"] = str(error)
            good.remove(index)
    _ask(good, [row.values for row in chunk], found, predictor)
    return found


def _ask(indexes: Sequence[int], values: Sequence[Mapping[str, Any]], found: list[dict[str, Any]], predictor: Predictor) -> None:
    """By halves, down to the row that the predictor does not take."""
    if not indexes:
        return
    try:
        outputs = predictor.predict([values[index] for index in indexes])
    except RowsRefused as error:
        if len(indexes) == 1:
            found[indexes[0]]["error"] = str(error)
            return
        middle = len(indexes) // 2
        _ask(indexes[:middle], values, found, predictor)
        _ask(indexes[middle:], values, found, predictor)
        return
    for index, output in zip(indexes, outputs, strict=True):
        found[index].update(output)


def _schema(signature: Signature) -> pa.Schema:
    """``row`` from 0, the outputs, ``error`` in words or null."""
    outputs = [(column.name, _type(column)) for column in signature.outputs]
    return pa.schema([("row", pa.int64()), *outputs, ("error", pa.string())])


def _type(column: Column) -> pa.DataType:
    kind = _ARROW[column.datatype]
    return pa.list_(kind) if column.shape else kind


def _assemble(store: BatchStore, parts: int, schema: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for number in range(parts):
            writer.write_table(pq.read_table(io.BytesIO(store.part(number)), schema=schema))
