"""Texts with human ratings: a reader of the archive of the paper on VADER."""

import io
import tarfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from slipway.errors import CorruptTable
from slipway.training.dataset import Table
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype

KINDS = ("tweets", "amazonReviewSnippets", "movieReviewSnippets", "nytEditorialSnippets")
"""Parts of the archive.

Their files ``KIND_GroundTruth.txt`` have number, mean rating and text, separated by tabs.
"""

COLUMNS = (
    Column(
        name="text",
        datatype=Datatype.BYTES,
        max_length=2000,
        description="a sentence or a few, in English",
    ),
)

_LARGEST = 8 * 2**20
"""Largest size of one unpacked file in bytes."""


def read_ratings(content: bytes, name: str) -> Table:
    """Read texts [rows, 1] and their mean ratings from -1 to 1 from the archive (tar.gz).

    Sentences of one review or editorial are one subject: their numbers are ``document_sentence``.
    Duplicate texts are dropped. Raises CorruptTable with file, line and column.
    """
    texts: dict[str, tuple[float, str]] = {}
    for kind in KINDS:
        where = f"{name}, {kind}_GroundTruth.txt"
        for line, row in enumerate(_file(content, kind, name).split("\n"), start=1):
            if row.strip():
                number, rating, text = _cells(row.removesuffix("\r"), f"{where} line {line}")
                texts.setdefault(text, (rating, f"{kind} {number.partition('_')[0]}"))
    rows = np.array(list(texts), dtype=object).reshape(-1, 1)
    return Table.of(
        rows,
        np.array([rating for rating, _ in texts.values()]),
        groups=[group for _, group in texts.values()],
    )


def _file(content: bytes, kind: str, name: str) -> str:
    for member, read in _members(content, name):
        if member.name.rpartition("/")[2] == f"{kind}_GroundTruth.txt":
            try:
                return read.read(_LARGEST).decode()
            except UnicodeDecodeError as error:
                raise CorruptTable(
                    f"{name}, {kind}_GroundTruth.txt: byte {error.start} is not text in UTF-8"
                ) from None
    raise CorruptTable(f"{name}: has no {kind}_GroundTruth.txt")


def _members(content: bytes, name: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                if member.isfile() and (read := archive.extractfile(member)):
                    yield member, read
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CorruptTable(f"{name}: is not a readable archive (tar.gz): {error}") from None


def _cells(row: str, where: str) -> tuple[str, float, str]:
    cells = row.split("\t")
    if len(cells) != 3:
        raise CorruptTable(f"{where}: has {len(cells)} columns; 3 are expected")
    number, rating, text = cells
    try:
        value = float(rating)
    except ValueError:
        value = np.nan
    if not -4 <= value <= 4:
        raise CorruptTable(f"{where}, column rating: {rating!r} is not a number from -4 to 4")
    return number, value / 4, text
