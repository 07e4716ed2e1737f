"""Prediction of a whole file, stored in parts, so that a restarted Job continues."""

import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from slipway.errors import CorruptTable, SlipwayError, WrongParameter
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.tables import Batch
from slipway_contract.v2 import Datatype

from slipway_jobs.batches.batch_store import BatchStore
from slipway_jobs.batches.predictor import Predictor, RowsRefused
from slipway_jobs.data.table_file import Row, TableFile
from slipway_jobs.errors import BatchRefused
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

_ARROW: dict[Datatype, pa.DataType] = {
    **{each: pa.from_numpy_dtype(each.dtype) for each in Datatype if each is not Datatype.BYTES},
    Datatype.BYTES: pa.string(),
    Datatype.FP16: pa.float32(),
}


OTHER_BYTES = 2**29
"""Largest size in memory of a file's pass-through columns: five times the largest CSV file."""


@dataclass
class Prediction:
    """Outputs of a row by name, or its error."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def predict_batch(batch_id: str, settings: Settings) -> dict[str, Any]:
    """Predict a batch and return the result as JSON.

    Raises SlipwayError; finished parts are stored.
    """
    if settings.database_url is None:
        raise WrongParameter(
            "SLIPWAY_DATABASE_URL: is not set; set it to the database of the gateway"
        )
    store = BatchStore(settings.database_url, batch_id)
    batch = store.batch()
    identity = {"batch": batch_id, "model": batch.model, "version": batch.version}
    if batch.finished:
        return {"state": "unchanged", **identity}
    token = settings.predictor_token.get_secret_value() if settings.predictor_token else None
    try:
        rows = _predict(batch, store, token)
    except CorruptTable as error:  # not retried, because the file is unchanged
        store.refuse(str(error))
        return {"state": "unreadable", "reason": str(error), **identity}
    except BatchRefused as error:
        store.refuse(str(error))
        raise
    except Exception as error:  # stored as the batch's reason, unless a later attempt succeeds
        is_ours = isinstance(error, SlipwayError)
        store.add_problem(
            str(error) if is_ours else f"the Job failed: {type(error).__name__}: {error}"
        )
        raise
    return {"state": "predicted", "rows": rows, **identity}


def _predict(batch: Batch, store: BatchStore, token: str | None) -> int:
    """Predict the remaining rows, store the result, and return the number of rows."""
    predictor = Predictor(batch.url, batch.service, batch.digest, token)
    with tempfile.TemporaryDirectory() as temporary, closing(predictor):
        folder = Path(temporary)
        store.input(folder / "input")
        table = TableFile(folder / "input", batch.format, predictor.signature)
        rows = table.count()
        schema = result_schema(predictor.signature, table.others)
        parts = _predict_parts(table, schema, store, store.begin(rows), predictor)
        _assemble(store, parts, schema, folder / "result")
        store.finish(folder / "result")
    return rows


def _predict_parts(
    table: TableFile, schema: pa.Schema, store: BatchStore, done: set[int], predictor: Predictor
) -> int:
    """Predict and store the parts that are not done; return the number of all parts."""
    number, start, size = -1, 0, 0
    for number, chunk in enumerate(table.chunks()):
        size += chunk.others.nbytes
        if size > OTHER_BYTES:
            names = ", ".join(table.others.names)[:500]
            raise CorruptTable(
                f"the columns that are no inputs have more than {OTHER_BYTES} bytes; leave "
                f"out {names}"
            )
        if number not in done:
            predictions = predict_rows(chunk.rows, predictor)
            content = io.BytesIO()
            pq.write_table(
                _part(start, predictions, chunk.others, predictor.signature, schema), content
            )
            failed = sum(prediction.error is not None for prediction in predictions)
            store.add_part(number, content.getvalue(), len(predictions), failed)
            logger.info(
                "part %d: %d rows, %d of them with an error", number, len(predictions), failed
            )
        start += len(chunk.rows)
    return number + 1


def _part(
    start: int,
    predictions: Sequence[Prediction],
    others: pa.Table,
    signature: Signature,
    schema: pa.Schema,
) -> pa.Table:
    """Return a part of the result as a table.

    Raises BatchRefused when outputs do not have the signature's types.
    """
    try:
        rows = pa.array(range(start, start + len(predictions)), pa.int64())
        outputs = [
            pa.array([each.outputs.get(column.name) for each in predictions], _type(column))
            for column in signature.outputs
        ]
        errors = pa.array([each.error for each in predictions], pa.string())
        return pa.Table.from_arrays([rows, *outputs, errors, *others.columns], schema=schema)
    except (pa.ArrowException, OverflowError) as error:
        raise BatchRefused(
            f"the outputs of the model are not of the types of its signature: {error}"
        ) from None


def predict_rows(chunk: Sequence[Row], predictor: Predictor) -> list[Prediction]:
    """Return the outputs or the error of each row.

    Valid rows are sent together; an invalid row does not affect the others.
    """
    found = [Prediction(error=row.problem) for row in chunk]
    good = [index for index, row in enumerate(chunk) if row.problem is None]
    for index in list(good):
        try:
            predictor.signature.request([chunk[index].values])
        except InvalidInput as error:
            found[index].error = str(error)
            good.remove(index)
    _predict_by_halves(good, [row.values for row in chunk], found, predictor)
    return found


def _predict_by_halves(
    indexes: Sequence[int],
    values: Sequence[Mapping[str, Any]],
    found: list[Prediction],
    predictor: Predictor,
) -> None:
    """Predict the rows; when the predictor rejects them, predict each half on its own."""
    if not indexes:
        return
    try:
        outputs = predictor.predict([values[index] for index in indexes])
    except RowsRefused as error:
        if len(indexes) == 1:
            found[indexes[0]].error = str(error)
            return
        middle = len(indexes) // 2
        _predict_by_halves(indexes[:middle], values, found, predictor)
        _predict_by_halves(indexes[middle:], values, found, predictor)
        return
    for index, output in zip(indexes, outputs, strict=True):
        found[index].outputs = output


def result_schema(signature: Signature, others: pa.Schema) -> pa.Schema:
    """Return the schema: ``row`` from 0, the outputs, ``error`` or null, and the other columns.

    Outputs have their names; other columns get underscores in front until their names are unique.
    """
    names = {column.name for column in signature.outputs}
    row, error, *rest = (_free_name(name, names) for name in ("row", "error", *others.names))
    outputs = [(column.name, _type(column)) for column in signature.outputs]
    passed = zip(rest, others.types, strict=True)
    return pa.schema([(row, pa.int64()), *outputs, (error, pa.string()), *passed])


def _free_name(name: str, names: set[str]) -> str:
    while name in names:
        name = f"_{name}"
    names.add(name)
    return name


def _type(column: Column) -> pa.DataType:
    kind = _ARROW[column.datatype]
    return pa.list_(kind) if column.shape else kind


def _assemble(store: BatchStore, parts: int, schema: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for number in range(parts):
            writer.write_table(pq.read_table(io.BytesIO(store.part(number)), schema=schema))
