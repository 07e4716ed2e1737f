"""The small network on heartbeats: it goes down the slope that there is, is the same each time, and
is what its graph says.
"""

import numpy as np
import pytest
from sklearn.base import clone
from slipway_jobs.data.synthetic_beats import synthetic_beats
from slipway_jobs.formats.onnx_graph import export
from slipway_jobs.formats.served import Served
from slipway_jobs.networks.classifier import SignalNetwork
from slipway_jobs.networks.network import Network
from slipway_jobs.tasks.metric import scores
from slipway_jobs.tasks.target import Classes
from slipway_jobs.tasks.task import Task, declared_task, parse_parameters
from slipway_jobs.training.training import check_parity, cross_validate, fit

ECG, BINARY = declared_task("ecg"), declared_task("ecg-binary")
MADE_UP = synthetic_beats(records=20, beats=15)


def test_every_slope_is_that_of_finite_differences() -> None:
    random = np.random.default_rng(0)
    x, labels, weights = (
        random.normal(size=(3, 40, 2)),
        np.array([0, 2, 1]),
        np.array([1.0, 0.5, 3.0]),
    )
    parameters = [
        each + random.normal(size=each.shape) / 5
        for each in Network.drawn(random, 2, 3, 3).parameters
    ]
    _, slopes = Network(parameters).slopes(x, labels, weights)
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert slope.shape == parameter.shape
        for place in np.ndindex(*parameter.shape):
            kept, step = parameter[place], 1e-6
            losses = []
            for parameter[place] in (kept + step, kept - step):
                losses.append(Network(parameters).slopes(x, labels, weights)[0])
            parameter[place] = kept
            assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope[place], abs=1e-6)


def test_the_same_rows_and_seed_give_the_same_network_to_the_last_bit() -> None:
    first = SignalNetwork(epochs=1, width=4).fit(MADE_UP.features, MADE_UP.labels)
    again = clone(first).fit(MADE_UP.features, MADE_UP.labels)
    other = clone(first).set_params(random_state=1).fit(MADE_UP.features, MADE_UP.labels)
    asked = [each.predict_proba(MADE_UP.features) for each in (first, again, other)]
    assert np.array_equal(asked[0], asked[1])
    assert not np.allclose(asked[0], asked[2])


@pytest.mark.parametrize("task", [ECG, BINARY])
def test_labels_and_probabilities_of_the_graph_are_those_of_the_network(task: Task) -> None:
    parameters = parse_parameters(
        task, {"estimator": "cnn", "epochs": "2", "width": "4", "folds": "2"}
    )
    fitted = fit(task, parameters, task.parts(MADE_UP, "record"))
    assert fitted.results.chosen == "cnn epochs=2 width=4"
    odd = np.zeros((4, 187), dtype=np.float32)
    odd[1], odd[2, :3], odd[3, 186] = 1, 1, 1
    assert (
        check_parity(task, fitted.served, fitted.estimator, np.concatenate([MADE_UP.features, odd]))
        < 1e-4
    )


def test_a_label_of_the_graph_is_a_class_and_not_its_place() -> None:
    """In the training rows of a small table a class can be missing."""
    known = MADE_UP.take(np.isin(MADE_UP.labels, [0, 2]))
    network = SignalNetwork(epochs=10, width=4).fit(known.features, known.labels)
    said = Served.of(export(network, BINARY.signature)).run(BINARY.feeds(known.features))["label"]
    assert np.array_equal(said, network.predict(known.features))
    assert set(said.tolist()) == {0, 2}


@pytest.mark.slow
def test_made_up_beats_of_unseen_records_are_told_apart_far_better_than_by_the_majority() -> None:
    parameters = parse_parameters(
        ECG, {"estimator": "cnn", "epochs": "20", "width": "8", "folds": "2"}
    )
    (network,) = ECG.candidates(parameters).values()
    found = np.mean(cross_validate(ECG, network, MADE_UP, parameters)["macro_f1"])
    majority = Classes(5).baselines["class shares"](MADE_UP, MADE_UP)
    assert found > 2 * scores(ECG.metrics, MADE_UP.labels, majority)["macro_f1"]
