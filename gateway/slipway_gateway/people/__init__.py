"""Accounts and groups of an identity provider that has SCIM."""
