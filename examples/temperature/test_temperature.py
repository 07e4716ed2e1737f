"""The example temperature is installed, and its model is better than a constant."""

import pytest
from slipway.training.baseline import baseline_scores
from slipway.training.fitting import fit, score
from slipway.training.installed import declared_dataset, declared_task
from slipway.training.task import parse_parameters


@pytest.mark.slow
def test_the_model_beats_its_baselines() -> None:
    task, dataset = declared_task("temperature"), declared_dataset("climate-synthetic")
    assert dataset.make is not None
    split = task.parts(dataset.make(), dataset.subject)
    estimator = next(iter(task.estimators(parse_parameters(task, {})).values()))
    found = score(task, fit(estimator, split.train), split.test)
    metric = task.selection
    for other in baseline_scores([metric], task.target.baselines, split.train, split.test).values():
        assert metric.direction.gain(found[metric.name], other[metric.name]) > 0
