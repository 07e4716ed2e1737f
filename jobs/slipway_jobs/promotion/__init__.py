"""Evaluation of registered versions, and the promotion gate."""
