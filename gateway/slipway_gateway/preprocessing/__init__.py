"""Conversion of rows: from forms and images, with published features, to ranked classes,
and their JSON Schema.
"""
