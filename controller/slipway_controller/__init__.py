"""Keeps the world as the ``Model`` resources say: registry alias, then InferenceService, then
traffic.
"""
