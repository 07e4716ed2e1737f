"""Synthetic heartbeats in the schema of the MIT-BIH table, from a seeded generator.

A beat is a sum of five Gaussians P, Q, R, S, T, as in the model of McSharry, Clifford, Tarassenko
and Smith (2003). Each record is a synthetic person with their own rate, anatomy, baseline wander
and noise. A model that is trained on it is not valid for patients.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from slipway.training.dataset import Table

from slipway_ecg.mitbih import RATE, SAMPLES

SEED = 125
RECORDS = 40
BEATS = 50
"""Beats of each record."""

# Of each wave: time after the R peak as a share of a 0.8 s beat, height and width likewise.
_CENTRE = np.array([-0.20, -0.035, 0.0, 0.035, 0.30])
_HEIGHT = np.array([0.12, -0.12, 1.0, -0.25, 0.30])
_WIDTH = np.array([0.025, 0.010, 0.011, 0.010, 0.050])
_P, _R, _S, _T = 0, 2, 3, 4
# Shares of N, S, V, F, Q in the ordinary record; a tenth of the records is paced and has Q for V.
_SHARES = np.array([0.6, 0.12, 0.22, 0.06])

Wave = NDArray[np.float64]


def synthetic_beats(records: int = RECORDS, beats: int = BEATS, seed: int = SEED) -> Table:
    """Return ``records`` × ``beats`` synthetic beats; equal for equal seeds."""
    random = np.random.default_rng(seed)
    rows, labels, names = [], [], []
    for record in range(records):
        person = _person(random)
        sampled = random.choice(4, size=beats, p=_SHARES)
        if record % 10 == 0:
            sampled[sampled == 2] = 4
        rows += [_beat(random, person, int(label)) for label in sampled]
        labels += sampled.tolist()
        names += [f"synthetic{record:03d}"] * beats
    return Table.of(np.stack(rows), np.array(labels), groups=names)


def _person(random: np.random.Generator) -> Mapping[str, Wave]:
    """Return a rate of 50 to 110 beats per minute, wave shapes, baseline wander and noise."""
    return {
        "interval": np.array(60 / random.uniform(50, 110)),
        "height": _HEIGHT * random.normal(1, 0.2, 5),
        "width": _WIDTH * random.normal(1, 0.1, 5),
        "wander": np.array(random.uniform(0, 0.08)),
        "noise": np.array(random.uniform(0.002, 0.02)),
    }


def _beat(
    random: np.random.Generator, person: Mapping[str, Wave], label: int
) -> NDArray[np.float32]:
    """Return 1.2 intervals from the R peak, [SAMPLES] FP32, scaled to 0..1 and padded with zeros.

    They contain the beat and the start of the next, normal one.
    """
    interval = float(person["interval"]) * random.normal(1, 0.03)
    time = np.arange(min(SAMPLES, round(1.2 * interval * RATE))) / RATE
    # After a premature beat the next one is late.
    following = interval * (random.uniform(1.02, 1.15) if label in (1, 2) else 1.0)
    signal = _waves(random, person, label, time) + _waves(random, person, 0, time - following)
    signal += float(person["wander"]) * np.sin(2 * np.pi * (0.25 * time + random.random()))
    signal += random.normal(0, float(person["noise"]), len(time))
    signal = (signal - signal.min()) / np.ptp(signal)
    return np.pad(signal, (0, SAMPLES - len(time))).astype(np.float32)


def _waves(random: np.random.Generator, person: Mapping[str, Wave], label: int, time: Wave) -> Wave:
    """Return the signal of one beat at ``time`` in seconds.

    Abnormal classes have a shifted ST segment, an inverted T wave and a wide QRS complex, to
    different degrees.
    """
    height, width = person["height"] * random.normal(1, 0.05, 5), person["width"].copy()
    # waves grow with the square root of the interval (Bazett 1920)
    stretch = np.sqrt(float(person["interval"]) / 0.8)
    wide = {
        2: random.uniform(2.2, 3.5),
        3: random.uniform(1.4, 2.0),
        4: random.uniform(3.0, 4.5),
    }.get(label, 1.0)
    width[_P + 1 : _T] *= wide
    shift = {
        1: 0.0,
        2: random.uniform(-0.15, -0.05),
        3: random.uniform(-0.08, 0.0),
        4: random.uniform(0.1, 0.25),
    }.get(label, 0.0)
    if label in (2, 4):
        height[_T] *= -random.uniform(0.6, 1.2)
    if label == 1:
        height[[_S, _T]] *= random.uniform(0.5, 0.8)
    waves = height * np.exp(-0.5 * ((time[:, None] / stretch - _CENTRE) / width) ** 2)
    segment = (
        shift
        / (1 + np.exp(-(time / stretch - 0.05) / 0.01))
        / (1 + np.exp((time / stretch - 0.22) / 0.02))
    )
    return np.asarray(waves.sum(axis=1) + segment)
