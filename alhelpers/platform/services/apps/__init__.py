"""Published packages (dpks) and their installations (apps)."""
