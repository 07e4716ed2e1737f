"""Requests that are kept, and answered later by a worker."""
