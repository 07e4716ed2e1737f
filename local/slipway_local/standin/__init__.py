"""The stand-in for Kubernetes: the same objects, run as processes of this machine."""
