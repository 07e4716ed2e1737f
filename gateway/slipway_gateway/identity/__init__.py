"""Who a caller is: tokens and keys of the OIDC issuer, accounts of its SCIM service."""
