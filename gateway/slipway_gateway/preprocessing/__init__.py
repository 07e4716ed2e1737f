"""Rows as callers send and read them: from forms and images, with ranked classes, described by a
schema.
"""
