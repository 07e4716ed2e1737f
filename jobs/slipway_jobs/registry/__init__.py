"""MLflow's runs and versions; what pins and signs an artifact."""

import os

# Before any module here imports MLflow: a client that reports its use to a third party is nobody's
# choice here.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that restarts is waited for, for about a minute; MLflow's own seven attempts take more
# than four.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
