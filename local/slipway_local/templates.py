"""Templates of Jobs: suspended CronJobs, to be started by ``create job --from``."""

import json
from collections.abc import Iterator
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field
from slipway_cluster import Manifest
from slipway_contract.labels import MODEL, PARAMETERS

HOPELESS = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}}]}
"""A wrong parameter, and a refusal, will be the same in the next pod."""
_FOLDER = resources.files("slipway_local") / "objects"


class Template(BaseModel):
    """What a Job runs, and how; the names are those of the chart's ``training.templates``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    args: list[str]
    """After ``python -m slipway_jobs``."""

    model: str | None = None
    """The model that it is about."""

    retries: int = Field(default=0, ge=0)
    """How often it is tried again."""

    workers: int | None = Field(default=None, ge=1)
    """Pods of an Indexed Job; None: one pod, without an index."""

    schedule: str = "@monthly"
    """When it is started by itself, once that is wanted; until then it is suspended."""

    time_zone: str | None = Field(default=None, alias="timeZone")
    """Of the schedule."""

    keep_seconds: int = Field(default=86400, ge=0, alias="keepSeconds")
    """How long the Job is kept after its end."""

    def cron_job(self, name: str) -> Manifest:
        container: Manifest = {
            "name": self.args[0],
            "image": "slipway-jobs",
            "command": ["python", "-m", "slipway_jobs", *self.args],
        }
        if self.args[0] == "tune":
            named = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
            container["env"] = [{"name": "SLIPWAY_SWEEP", "valueFrom": named}]
        indexed = (
            {"completionMode": "Indexed", "completions": self.workers, "parallelism": self.workers}
            if self.workers
            else {}
        )
        job = {
            **indexed,
            **({"podFailurePolicy": HOPELESS} if self.retries else {}),
            "backoffLimit": self.retries,
            "ttlSecondsAfterFinished": self.keep_seconds,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }
        return {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": name, "labels": {MODEL: self.model} if self.model else {}},
            "spec": {
                "schedule": self.schedule,
                "timeZone": self.time_zone,
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
    """All of them, those of trainings and sweeps with the schema of their parameters."""
    known = trainable()
    trainings = {f"train-{model}": {"args": ["train", model], "model": model} for model in known}
    for name, each in {
        **trainings,
        **yaml.safe_load((_FOLDER / "templates.yaml").read_text()),
    }.items():
        template = Template.model_validate(each)
        manifest = template.cron_job(name)
        if template.args[0] in ("train", "tune"):
            manifest["metadata"]["annotations"] = {
                PARAMETERS: json.dumps(known[str(template.model)])
            }
        yield manifest
