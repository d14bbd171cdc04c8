"""A page to look at: what the platform holds, for a browser. Rendered here, read-only but for item statuses."""
