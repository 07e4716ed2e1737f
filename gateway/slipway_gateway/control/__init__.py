"""The control API under ``/v1``, its documentation pages and the probes, implemented in FastAPI."""
