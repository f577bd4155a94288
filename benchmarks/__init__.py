"""Side-by-side measurements of the service and its peers, each one command; see docs/performance.md."""
