"""The datasets of ecg."""

from slipway.training.dataset import Dataset

from slipway_ecg import mitbih
from slipway_ecg.synthetic_beats import BEATS, RECORDS, SEED, synthetic_beats

ECG_MITBIH = Dataset(
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
)

ECG_SYNTHETIC = Dataset(
    name="ecg-synthetic",
    title=(f"Synthetic: {BEATS} beats, sums of five Gaussians, of each of {RECORDS} records"),
    source=f"slipway_ecg.synthetic_beats, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by Slipway's generator; not valid for patients",
    subject="synthetic record",
    columns=mitbih.COLUMNS,
    make=synthetic_beats,
    synthetic=True,
)
