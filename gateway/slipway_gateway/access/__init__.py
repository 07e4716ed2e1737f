"""Authorization: the table of routes and roles, grants of models, and the audit of changes."""
