"""Slipway's SDK: package a fitted model and register it as a version."""
