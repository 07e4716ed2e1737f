"""The edge of the gateway: authentication, authorization and dispatch of every request."""
