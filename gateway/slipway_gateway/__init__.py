"""Entry point for callers: authentication, authorization, routing to versions, event log."""
