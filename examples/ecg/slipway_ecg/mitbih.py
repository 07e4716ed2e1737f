"""Single heartbeats cut from the MIT-BIH Arrhythmia Database: columns and reader of the table.

A beat starts at its R peak and lasts 1.2 median beat intervals of its ten-second window, at 125 Hz,
scaled to 0..1 and padded with zeros (Kachuee, Fazeli, Sarrafzadeh 2018); the classes are those of
ANSI/AAMI EC57. The reader reads the table of cut beats, not the public original in WFDB format.
"""

import csv
import gzip
import io
import zlib

import numpy as np
from slipway.errors import CorruptTable
from slipway.training import Column, Datatype
from slipway.training.dataset import Floats, Table

RATE = 125
"""Samples per second."""
SAMPLES = 187
CLASSES = {
    0: "N normal",
    1: "S supraventricular",
    2: "V ventricular",
    3: "F fusion",
    4: "Q paced or unclassifiable",
}

BEAT = Column(
    name="beat", datatype=Datatype.FP32, shape=(SAMPLES,), minimum=0, maximum=1,
    description="187 samples at 125 Hz from the R peak on, scaled to 0..1 and padded with zeros",
)  # fmt: skip
COLUMNS = (BEAT,)

_HEADER = ["record", "label", *(f"x{position}" for position in range(SAMPLES))]
_LARGEST = 64 * 2**20
"""Largest size of the unpacked table in bytes."""


def read_beats(content: bytes, name: str) -> Table:
    """Read the table from a CSV file, plain or compressed by gzip; a row's subject is its record.

    Raises CorruptTable with line and column.
    """
    reader = csv.reader(io.StringIO(_text(content, name)), strict=True)
    records, labels, beats = [], [], []
    try:
        _check_header(next(reader, []), name)
        for cells in reader:
            where = f"{name} line {reader.line_num}"
            if len(cells) != len(_HEADER):
                raise CorruptTable(
                    f"{where}: has {len(cells)} columns; {len(_HEADER)} are expected"
                )
            records.append(_record(cells[0], where))
            labels.append(_label(cells[1], where))
            beats.append(_samples(cells, where))
    except csv.Error as error:
        raise CorruptTable(f"{name} line {reader.line_num}: is not CSV: {error}") from None
    if not beats:
        raise CorruptTable(f"{name}: has no rows")
    return Table.of(np.stack(beats), np.array(labels), groups=records)


def _text(content: bytes, name: str) -> str:
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise CorruptTable(f"{name}: has more than {_LARGEST} bytes unpacked")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptTable(f"{name}: cannot be unpacked: {error}") from None
    except UnicodeDecodeError as error:
        raise CorruptTable(f"{name}: byte {error.start} is not text in UTF-8") from None


def _check_header(found: list[str], name: str) -> None:
    if len(found) != len(_HEADER):
        raise CorruptTable(f"{name} line 1: has {len(found)} columns; {len(_HEADER)} are expected")
    for position, (given, wanted) in enumerate(zip(found, _HEADER, strict=True), start=1):
        if given != wanted:
            raise CorruptTable(
                f"{name} line 1, column {position}: is {given!r:.50}; {wanted!r} is expected"
            )


def _record(cell: str, where: str) -> str:
    if not (cell.isascii() and cell.isalnum()):
        raise CorruptTable(f"{where}, column record: {cell!r:.50} is not the name of a record")
    return cell


def _label(cell: str, where: str) -> int:
    if cell not in {str(code) for code in CLASSES}:
        raise CorruptTable(
            f"{where}, column label: {cell!r:.50} is not one of {', '.join(map(str, CLASSES))}"
        )
    return int(cell)


def _samples(cells: list[str], where: str) -> Floats:
    try:
        values = np.array([float(cell) for cell in cells[2:]], dtype=np.float32)
    except ValueError:
        position = next(
            index for index, cell in enumerate(cells) if index > 1 and not _is_number(cell)
        )
        raise CorruptTable(
            f"{where}, column {_HEADER[position]}: {cells[position]!r:.50} is not a number"
        ) from None
    # Comparisons with NaN are false.
    if len(wrong := np.flatnonzero(~((values >= 0) & (values <= 1)))):
        position = int(wrong[0]) + 2
        raise CorruptTable(
            f"{where}, column {_HEADER[position]}: {cells[position]:.50} is not from 0 to 1"
        )
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
