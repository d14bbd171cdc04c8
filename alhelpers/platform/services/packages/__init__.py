"""Packages: code in revisions, as older parts of the SDK push it."""
