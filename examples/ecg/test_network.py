"""The convolutional network: gradients, reproducibility, and the parity of its graph."""

import numpy as np
import pytest
from sklearn.base import clone
from slipway.packaging.onnx_graph import export
from slipway.training.fitting import cross_validate
from slipway.training.installed import declared_task
from slipway.training.metric import scores
from slipway.training.target import Classes
from slipway.training.task import Task, parse_parameters
from slipway_ecg.networks.classifier import SignalNetwork
from slipway_ecg.networks.network import Network
from slipway_ecg.synthetic_beats import synthetic_beats
from slipway_jobs.formats.served import Served
from slipway_jobs.training.training import check_parity, fit

ECG, BINARY = declared_task("ecg"), declared_task("ecg-binary")
SYNTHETIC = synthetic_beats(records=20, beats=15)


def test_gradients_equal_finite_differences() -> None:
    random = np.random.default_rng(0)
    x, labels, weights = (
        random.normal(size=(3, 40, 2)),
        np.array([0, 2, 1]),
        np.array([1.0, 0.5, 3.0]),
    )
    parameters = [
        each + random.normal(size=each.shape) / 5
        for each in Network.random(random, 2, 3, 3).parameters
    ]
    _, gradients = Network(parameters).gradients(x, labels, weights)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert gradient.shape == parameter.shape
        for index in np.ndindex(*parameter.shape):
            original, step = parameter[index], 1e-6
            losses = []
            for parameter[index] in (original + step, original - step):
                losses.append(Network(parameters).gradients(x, labels, weights)[0])
            parameter[index] = original
            assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient[index], abs=1e-6)


def test_the_same_rows_and_seed_train_a_bit_identical_network() -> None:
    first = SignalNetwork(epochs=1, width=4).fit(SYNTHETIC.features, SYNTHETIC.labels)
    again = clone(first).fit(SYNTHETIC.features, SYNTHETIC.labels)
    other = clone(first).set_params(random_state=1).fit(SYNTHETIC.features, SYNTHETIC.labels)
    predictions = [each.predict_proba(SYNTHETIC.features) for each in (first, again, other)]
    assert np.array_equal(predictions[0], predictions[1])
    assert not np.allclose(predictions[0], predictions[2])


@pytest.mark.parametrize("task", [ECG, BINARY])
def test_labels_and_probabilities_of_the_graph_are_those_of_the_network(task: Task) -> None:
    parameters = parse_parameters(
        task, {"estimator": "cnn", "epochs": "2", "width": "4", "folds": "2"}
    )
    fitted = fit(task, parameters, task.parts(SYNTHETIC, "record"))
    assert fitted.results.chosen == "cnn epochs=2 width=4"
    odd = np.zeros((4, 187), dtype=np.float32)
    odd[1], odd[2, :3], odd[3, 186] = 1, 1, 1
    assert (
        check_parity(
            task, fitted.served, fitted.estimator, np.concatenate([SYNTHETIC.features, odd])
        )
        < 1e-4
    )


def test_a_label_of_the_graph_is_a_class_and_not_its_index() -> None:
    """Train without one class, as the rows of a small table may be."""
    known = SYNTHETIC.take(np.isin(SYNTHETIC.labels, [0, 2]))
    network = SignalNetwork(epochs=10, width=4).fit(known.features, known.labels)
    predicted = Served.of(export(network, BINARY.signature)).run(BINARY.feeds(known.features))[
        "label"
    ]
    assert np.array_equal(predicted, network.predict(known.features))
    assert set(predicted.tolist()) == {0, 2}


@pytest.mark.slow
def test_synthetic_beats_of_unseen_records_are_classified_far_better_than_by_the_majority() -> None:
    parameters = parse_parameters(
        ECG, {"estimator": "cnn", "epochs": "20", "width": "8", "folds": "2"}
    )
    (network,) = ECG.estimators(parameters).values()
    found = np.mean(cross_validate(ECG, network, SYNTHETIC, parameters)["macro_f1"])
    majority = Classes(5).baselines["class shares"](SYNTHETIC, SYNTHETIC)
    assert found > 2 * scores(ECG.metrics, SYNTHETIC.labels, majority)["macro_f1"]
