"""HTTP transport: connections, bodies and content codings, and the clients for predictors, the
identity provider and URLs from callers.
"""
