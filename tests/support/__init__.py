"""What the tests of several packages share: waiting, processes and servers.

The tests of serving/ have an environment of their own, so a module here imports only what both
environments have, or what those that use it have.
"""
