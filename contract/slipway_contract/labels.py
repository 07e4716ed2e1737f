"""Names that Slipway writes on Kubernetes objects."""

GROUP = "serving.slipway.dev"
FIELD_MANAGER = "slipway"

MODEL = "slipway.dev/model"
"""Label: the Model that an InferenceService or Job belongs to."""

VERSION = "slipway.dev/version"
"""Label: the registry version that an InferenceService serves."""

PURPOSE = "slipway.dev/purpose"
"""Label: what a Job was submitted for through the gateway: ``training``, ``promotion``,
``batch``.
"""

SUBMITTED_BY = "slipway.dev/submitted-by"
"""Annotation: who submitted a Job, ``user:ada`` or ``client:nightly``."""

SUBMITTED = "slipway.dev/submitted"
"""Annotation: when, to the microsecond; RFC 3339, UTC."""

REQUEST = "slipway.dev/request"
"""Annotation: what a submitted Job was asked for, as JSON."""

PARAMETERS = "slipway.dev/parameters"
"""Annotation of a Job template: JSON Schema of the parameters that it takes as
``--set=NAME=VALUE``. Without it: none.
"""

MANAGED_BY = "app.kubernetes.io/managed-by"
