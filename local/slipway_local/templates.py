"""Job templates: suspended CronJobs, started by ``create job --from``."""

import json
from collections.abc import Iterator
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field
from slipway_cluster import Manifest
from slipway_contract.labels import MODEL, PARAMETERS

NO_RETRY = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}}]}
"""Exit codes 2 (invalid parameter) and 3 (refusal), which a retry would repeat."""
_FOLDER = resources.files("slipway_local") / "objects"


class Template(BaseModel):
    """Command and options of a Job; the names are those of the chart's ``training.templates``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    args: list[str]
    """Arguments of ``python -m slipway_jobs``."""

    model: str | None = None
    """The model that the Job concerns."""

    retries: int = Field(default=0, ge=0)
    """Number of retries."""

    workers: int | None = Field(default=None, ge=1)
    """Pods of an Indexed Job; None: one pod, without an index."""

    schedule: str = "@monthly"
    """Schedule of the CronJob; the CronJob is suspended at first."""

    time_zone: str | None = Field(default=None, alias="timeZone")
    """Time zone of the schedule."""

    keep_seconds: int = Field(default=86400, ge=0, alias="keepSeconds")
    """Seconds between the end of the Job and its deletion."""

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
            **({"podFailurePolicy": NO_RETRY} if self.retries else {}),
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
                # The TTL, not the number of later Jobs, limits the history.
                "successfulJobsHistoryLimit": 1000,
                "failedJobsHistoryLimit": 1000,
                "jobTemplate": {"spec": job},
            },
        }


def trainable() -> dict[str, object]:
    """Return the JSON Schema of the parameters of each model that slipway_jobs can train."""
    known: dict[str, object] = json.loads((_FOLDER / "parameters.json").read_text())
    return known


def templates() -> Iterator[Manifest]:
    """Yield all templates, those of trainings and sweeps with the schema of their parameters."""
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
