"""What a caller may do: the table of roles and routes, grants of models, and the audit of their
changes.
"""
