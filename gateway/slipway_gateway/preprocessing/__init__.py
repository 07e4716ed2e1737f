"""Rows as callers send and read them: from forms and pictures, with ranked classes, described by a
schema.
"""
