"""Bytes to and from others: connections, bodies and their codings, calls to predictors and to
addresses that callers name.
"""
