"""Feature sets and their vectors."""
