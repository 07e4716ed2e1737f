"""MLflow runs and versions; digests and signatures of artifacts."""

import os

# Set before any module here imports MLflow, which otherwise sends usage reports to a third party.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Five retries bridge a server restart of about a minute; MLflow's default of seven takes more than
# four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
