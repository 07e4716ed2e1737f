"""Adoption of logged models, signing of versions, and MLflow files of trained models."""

import slipway.registry  # noqa: F401  # sets MLflow's variables before a module here imports it
