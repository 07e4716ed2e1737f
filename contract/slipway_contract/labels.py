"""Names that Slipway writes on Kubernetes objects."""

GROUP = "serving.slipway.dev"
FIELD_MANAGER = "slipway"

MODEL = "slipway.dev/model"
"""Label: the Model that an InferenceService or Job belongs to."""

VERSION = "slipway.dev/version"
"""Label: the registry version that an InferenceService serves."""

PURPOSE = "slipway.dev/purpose"
"""Label: purpose of a Job that the gateway lists: ``training``, ``promotion``, ``batch``.

Jobs that callers submit have it, and all Jobs of the CronJob of a Model's training.
"""

TRAINING = "training"
"""The purpose of a training."""

SUBMITTED_BY = "slipway.dev/submitted-by"
"""Annotation: the submitter of a Job, ``user:ada``, ``client:nightly`` or CONTROLLER."""

CONTROLLER = "controller"
"""Submitter of the Jobs of rollbacks; the audit entry of the Model's change has the person."""

SUBMITTED = "slipway.dev/submitted"
"""Annotation: time of the submission to the microsecond; RFC 3339, UTC."""

REQUEST = "slipway.dev/request"
"""Annotation: the request of a submitted Job, as JSON."""

PARAMETERS = "slipway.dev/parameters"
"""Annotation of a Job template: JSON Schema of its parameters, ``--set=NAME=VALUE``.

Without the annotation, the template has no parameters.
"""

TEMPLATE = "slipway.dev/template"
"""Label of a predictor's pods, and annotation of a CronJob: hash of what the Model asks for.

A removed field differs by this alone, because additional fields of an object do not count.
"""

MANAGED_BY = "app.kubernetes.io/managed-by"
