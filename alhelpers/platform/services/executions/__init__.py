"""Runs of functions, in worker processes or (built-in nodes) inside the server."""
