"""Identity of callers: access tokens and keys of the OIDC issuer, groups, roles and subjects."""
