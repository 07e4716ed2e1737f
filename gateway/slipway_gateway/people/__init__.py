"""Accounts and groups of the identity provider, over SCIM."""
