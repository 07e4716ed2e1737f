"""The datasets of heart."""

from slipway.training.dataset import Dataset

from slipway_heart import cleveland
from slipway_heart.synthetic import SEED, synthetic_heart

_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/processed.cleveland.data"
_JANOSI = (
    "Janosi A, Steinbrunn W, Pfisterer M, Detrano R. Heart Disease. UCI Machine Learning "
    "Repository, 1989. doi:10.24432/C52P4X"
)
HEART_CLEVELAND = Dataset(
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
)

HEART_CLEVELAND_RECODED = Dataset(
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
)

HEART_SYNTHETIC = Dataset(
    name="heart-synthetic",
    title="Synthetic: patients in the schema of the Cleveland table",
    source=f"slipway_heart.synthetic, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by Slipway's generator; not valid for patients",
    subject="synthetic patient",
    columns=cleveland.COLUMNS,
    make=synthetic_heart,
    synthetic=True,
)
