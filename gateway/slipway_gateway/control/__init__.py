"""The control API under ``/v1``, the pages and the probes: FastAPI, a module a group of routes."""
