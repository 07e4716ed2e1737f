"""The declared datasets, and the search of their sources.

The sources in order: the mirror folder (``SLIPWAY_DATA``), the public source, then a package, a
database or a generator. Every table is verified with the digest of its declaration before it is
used.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from slipway.errors import Refused, Unavailable, WrongDigest
from slipway.training.dataset import Dataset, Loaded, SourceKind, Table
from slipway_contract.signature import Column
from slipway_contract.url import read_url
from slipway_contract.v2 import Datatype

from slipway_jobs.data import cleveland, mitbih
from slipway_jobs.data.climate import INPUTS as CLIMATE_COLUMNS
from slipway_jobs.data.climate import READINGS, STATIONS, synthetic_climate
from slipway_jobs.data.climate import SEED as CLIMATE_SEED
from slipway_jobs.data.ratings import COLUMNS as TEXTS
from slipway_jobs.data.ratings import read_ratings
from slipway_jobs.data.sentences import SEED as SENTENCES_SEED
from slipway_jobs.data.sentences import synthetic_sentences
from slipway_jobs.data.synthetic import SEED, synthetic_heart
from slipway_jobs.data.synthetic_beats import BEATS, RECORDS, synthetic_beats
from slipway_jobs.data.synthetic_beats import SEED as BEATS_SEED
from slipway_jobs.download import download
from slipway_jobs.sales.etl import FILE
from slipway_jobs.sales.features import COLUMNS as SALES_COLUMNS
from slipway_jobs.sales.history import UNTIL, of_file, of_generator, of_warehouse
from slipway_jobs.sales.synthetic import SEED as SALES_SEED
from slipway_jobs.settings import Settings

logger = logging.getLogger(__name__)

_LARGEST = 64 * 2**20
"""Largest file in bytes that is downloaded from a public source."""


def _digits() -> Table:
    from sklearn.datasets import load_digits  # takes a second to import; only digits needs it

    digits = load_digits()
    return Table.of(digits.data.astype(np.float32), digits.target)


_YOURS = "as your own data"
_NO_CITATION = "none: your own"

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/processed.cleveland.data"
_JANOSI = (
    "Janosi A, Steinbrunn W, Pfisterer M, Detrano R. Heart Disease. UCI Machine Learning "
    "Repository, 1989. doi:10.24432/C52P4X"
)
_RATINGS = (
    "https://raw.githubusercontent.com/cjhutto/vaderSentiment/44fc044cd877310ee8278a0eadf34bcd50d41d06/"
    "additional_resources/hutto_ICWSM_2014.tar.gz"
)

DATASETS: Mapping[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            name="heart-cleveland",
            title="Heart disease, Cleveland Clinic: 303 patients, 13 clinical inputs",
            source=_UCI,
            licence="CC BY 4.0",
            citation=_JANOSI,
            subject="patient",
            digest="sha256:a9de04fe9a153c69fc202549af5c42fe9c0d873293fe22bdf1d10fbddfd6d6bc",
            files=("heart_cleveland.csv", "processed.cleveland.data"),
            url=_UCI,
            columns=cleveland.COLUMNS,
            read=cleveland.read_cleveland,
        ),
        Dataset(
            name="heart-cleveland-recoded",
            title=(
                "The same table in the re-coded copy heart.csv, codes and label restored: 302 "
                "patients, one of them twice"
            ),
            source="a copy of " + _UCI,
            licence="CC BY 4.0",
            citation=_JANOSI,
            subject="patient",
            digest="sha256:06c4c82cf669d65e53f1ac4441dfb7d6b1af8cb9e4a74178ae0f4fccc023042b",
            files=("heart.csv",),
            columns=cleveland.COLUMNS,
            read=cleveland.read_cleveland,
        ),
        Dataset(
            name="heart-synthetic",
            title="Synthetic: patients in the schema of the Cleveland table",
            source=f"slipway_jobs.data.synthetic, seed {SEED}",
            licence="Apache-2.0",
            citation="none: made by Slipway's generator; not valid for patients",
            subject="synthetic patient",
            columns=cleveland.COLUMNS,
            make=synthetic_heart,
            synthetic=True,
        ),
        Dataset(
            name="sales-warehouse",
            title="Sales in the warehouse, through the last Sunday",
            source="tables of the schema warehouse, filled by the Job etl",
            licence=_YOURS,
            citation=_NO_CITATION,
            subject="pair of store and product",
            columns=SALES_COLUMNS,
            query=of_warehouse,
        ),
        Dataset(
            name="sales",
            title="Sales in a file of raw rows",
            source=f"{FILE} in the mirror folder",
            licence=_YOURS,
            citation=_NO_CITATION,
            subject="pair of store and product",
            columns=SALES_COLUMNS,
            files=(FILE,),
            read=of_file,
        ),
        Dataset(
            name="sales-synthetic",
            title=f"Synthetic: 5 stores and 8 products, from 2024 to {UNTIL}",
            source=f"slipway_jobs.sales.synthetic, seed {SALES_SEED}",
            licence="Apache-2.0",
            citation="none: made by Slipway's generator; not valid for trade",
            subject="pair of store and product",
            columns=SALES_COLUMNS,
            make=of_generator,
            synthetic=True,
        ),
        Dataset(
            name="digits",
            title="Handwritten digits, 8×8 pixels of 0..16: 1,797 images",
            source="https://archive.ics.uci.edu/dataset/80 (test part), from scikit-learn",
            licence="CC BY 4.0",
            citation="Alpaydin E, Kaynak C. Optical Recognition of Handwritten Digits. UCI Machine "
            "Learning Repository, 1998. "
            "doi:10.24432/C50P49",
            subject="image",
            digest="sha256:4c993bafe074d5caa2ddf74c7019231d32e6a8a4b2a7677f695a05376f82dba7",
            columns=(
                Column(name="pixels", datatype=Datatype.FP32, shape=(64,), minimum=0, maximum=16),
            ),
            make=_digits,
        ),
        Dataset(
            name="ecg-mitbih",
            title=(
                "Heartbeats of the MIT-BIH Arrhythmia Database: 4,735 beats of 48 records, cut, "
                "scaled and sampled"
            ),
            source="https://physionet.org/content/mitdb/1.0.0/",
            licence="ODC-By 1.0",
            citation="Moody GB, Mark RG. The impact of the MIT-BIH "
            "Arrhythmia Database. IEEE Eng Med "
            "Biol 20(3):45-50, 2001. "
            "Goldberger A et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation "
            "101(23):e215-e220 (2000)",
            subject="record",
            digest="sha256:c89bccf4fc0b2e92edeaa6fc87269550284e5a717cbaaa2afc9ff4413825b414",
            files=("mitbih_beats_sample_by_patient.csv.gz", "mitbih_beats_sample_by_patient.csv"),
            columns=mitbih.COLUMNS,
            read=mitbih.read_beats,
        ),
        Dataset(
            name="ecg-synthetic",
            title=(
                f"Synthetic: {BEATS} beats, sums of five Gaussians, of each of {RECORDS} records"
            ),
            source=f"slipway_jobs.data.synthetic_beats, seed {BEATS_SEED}",
            licence="Apache-2.0",
            citation="none: made by Slipway's generator; not valid for patients",
            subject="synthetic record",
            columns=mitbih.COLUMNS,
            make=synthetic_beats,
            synthetic=True,
        ),
        Dataset(
            name="rated-texts",
            title=(
                "Sentences of tweets, reviews and editorials, each rated by some twenty people: "
                "23,619 different ones"
            ),
            source=_RATINGS,
            licence="MIT (of the archive; the texts are their authors')",
            citation="Hutto C J, Gilbert E. VADER: A Parsimonious Rule-based Model for Sentiment "
            "Analysis of Social Media Text. "
            "Eighth International Conference on Weblogs and Social Media (ICWSM-14), 2014",
            subject="document",
            digest="sha256:038166daeabde111ce3a5ea136a68c7d28e8480380f41bf63f45a03d6ea434dc",
            files=("hutto_ICWSM_2014.tar.gz",),
            columns=TEXTS,
            url=_RATINGS,
            read=read_ratings,
        ),
        Dataset(
            name="sentences-synthetic",
            title="Synthetic: sentences with ratings",
            source=f"slipway_jobs.data.sentences, seed {SENTENCES_SEED}",
            licence="Apache-2.0",
            citation="none: made by Slipway's generator; not valid for real texts",
            subject="synthetic sentence",
            columns=TEXTS,
            make=synthetic_sentences,
            synthetic=True,
        ),
        Dataset(
            name="climate-synthetic",
            title=(f"Synthetic: {STATIONS} weather stations, {READINGS} temperatures of each"),
            source=f"slipway_jobs.data.climate, seed {CLIMATE_SEED}",
            licence="Apache-2.0",
            citation="none: made by Slipway's generator; not valid for weather",
            subject="synthetic station",
            columns=CLIMATE_COLUMNS,
            make=synthetic_climate,
            synthetic=True,
        ),
    )
}


def first_available(entries: Sequence[Dataset], settings: Settings) -> Loaded:
    """Return the first available dataset. Raises Unavailable when none is."""
    reasons = []
    for entry in entries:
        try:
            return find(entry, settings)
        except Unavailable as error:
            logger.info("%s", error)
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))


def load(entry: Dataset, settings: Settings) -> Table:
    """Return the dataset's table; raises as ``find`` does."""
    return find(entry, settings).table


def find(entry: Dataset, settings: Settings) -> Loaded:
    """Return the dataset's verified table and the kind of its source.

    Raises Unavailable when no source has it, CorruptTable or WrongDigest when a source has other
    content: a wrong copy is never skipped silently.
    """
    table, source_kind, where = _search(entry, settings)
    if entry.digest is not None and table.digest != entry.digest:
        raise WrongDigest(
            f"{where} is not the dataset {entry.name}: its {len(table)} rows have the digest "
            f"{table.digest}; "
            f"{entry.digest} is expected. Restore or remove the copy"
        )
    logger.info(
        "dataset %s: %d rows from the %s, %s, %s",
        entry.name,
        len(table),
        source_kind,
        where,
        table.digest,
    )
    return Loaded(entry, table, source_kind)


def _search(entry: Dataset, settings: Settings) -> tuple[Table, SourceKind, str]:
    if entry.read and settings.data and (path := _mirrored(entry, settings.data)):
        return entry.read(path.read_bytes(), str(path)), SourceKind.MIRROR, str(path)
    reason = f"not in the mirror {settings.data}" if settings.data else "SLIPWAY_DATA is not set"
    if entry.read and entry.url and settings.fetch:
        try:
            return (
                entry.read(_fetched(entry.url, settings.fetch_timeout), entry.url),
                SourceKind.PUBLIC,
                entry.url,
            )
        except Refused as error:
            reason += f", and {entry.url} is not available ({error})"
    if entry.query:
        return entry.query(settings), SourceKind.WAREHOUSE, entry.source
    if entry.make is None:
        raise Unavailable(f"dataset {entry.name} is not available: {reason}")
    return (
        entry.make(),
        SourceKind.GENERATOR if entry.synthetic else SourceKind.PACKAGE,
        entry.source,
    )


def _mirrored(entry: Dataset, folder: Path) -> Path | None:
    return next((path for name in entry.files if (path := folder / name).is_file()), None)


def _fetched(url: str, timeout: float) -> bytes:
    """Download a declared public source. Raises Refused.

    Its host may be private; the hosts that it redirects to must be public.
    """
    content = bytearray()
    for part in download(url, frozenset({read_url(url).host}), timeout):
        content += part
        if len(content) > _LARGEST:
            raise Refused(f"{url} has more than {_LARGEST} bytes")
    return bytes(content)
