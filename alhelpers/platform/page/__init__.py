"""The platform's web page, rendered on the server; only item statuses can be changed on it."""
