"""The platform's web page, rendered on the server; it changes only labels and statuses of items in tasks."""
