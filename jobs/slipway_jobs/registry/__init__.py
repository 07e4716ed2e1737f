"""MLflow's runs and versions; what pins and signs an artifact."""
