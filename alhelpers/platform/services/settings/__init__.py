"""Settings: named values of a project, a dataset, a task or a user."""
