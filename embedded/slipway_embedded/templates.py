"""Templates of Jobs: suspended CronJobs, to be started by ``create job --from``."""

import json
from collections.abc import Iterator
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field
from slipway_cluster import Manifest
from slipway_contract.labels import MODEL, PARAMETERS

_FOLDER = resources.files("slipway_embedded") / "objects"


class Template(BaseModel):
    """What a Job runs, and how; the names are those of the chart's ``training.templates``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    args: list[str]
    """After ``python -m slipway_jobs``."""

    model: str | None = None
    """The model that it is about."""

    retries: int = Field(default=0, ge=0)
    """How often it is tried again."""

    keep_seconds: int = Field(default=86400, ge=0, alias="keepSeconds")
    """How long the Job is kept after its end."""

    def cron_job(self, name: str) -> Manifest:
        container = {"name": self.args[0], "image": "slipway-jobs", "command": ["python", "-m", "slipway_jobs", *self.args]}
        job = {
            "backoffLimit": self.retries,
            "ttlSecondsAfterFinished": self.keep_seconds,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name, "labels": {MODEL: self.model} if self.model else {}},
            "spec": {
                "schedule": "@monthly",
                "suspend": True,
                # Jobs go when their time is over, not when others came after them.
                "successfulJobsHistoryLimit": 1000,
                "failedJobsHistoryLimit": 1000,
                "jobTemplate": {"spec": job},
            },
        }


def trainable() -> dict[str, object]:
    """The models that slipway_jobs can train: what a training of each takes, as JSON Schema."""
    known: dict[str, object] = json.loads((_FOLDER / "parameters.json").read_text())
    return known


def templates() -> Iterator[Manifest]:
    """All of them, those of trainings with the schema of their parameters."""
    for model, parameters in trainable().items():
        manifest = Template(args=["train", model], model=model).cron_job(f"train-{model}")
        manifest["metadata"]["annotations"] = {PARAMETERS: json.dumps(parameters)}
        yield manifest
    for name, template in yaml.safe_load((_FOLDER / "templates.yaml").read_text()).items():
        yield Template.model_validate(template).cron_job(name)
