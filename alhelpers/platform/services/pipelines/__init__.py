"""Pipelines as stored documents; nothing runs them."""
