"""Asynchronous predictions: stored tasks, which a worker executes, and webhooks."""
