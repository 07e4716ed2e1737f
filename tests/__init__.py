"""The tests. A package with this file, because a wheel in the environment has a package `tests`,
too.
"""
