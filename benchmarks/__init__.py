"""Measurements of the service beside its peers, each one command; see docs/performance.md."""
