"""Conversion of rows: from forms and images, with features from the warehouse, to ranked classes,
and their JSON Schema.
"""
