"""Pipelines and their cycles."""
