"""Entry point for callers: authentication, authorization, routing to versions, and the event log."""
