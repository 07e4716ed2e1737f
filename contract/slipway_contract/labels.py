"""Names that Slipway writes on Kubernetes objects."""

GROUP = "serving.slipway.dev"
FIELD_MANAGER = "slipway"

MODEL = "slipway.dev/model"
"""Label: the Model that an InferenceService or Job belongs to."""

VERSION = "slipway.dev/version"
"""Label: the registry version that an InferenceService serves."""

MANAGED_BY = "app.kubernetes.io/managed-by"
