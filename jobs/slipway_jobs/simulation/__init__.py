"""Simulated traffic."""
