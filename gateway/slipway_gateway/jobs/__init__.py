"""Kubernetes Jobs on behalf of callers: trainings, promotions and batches."""
