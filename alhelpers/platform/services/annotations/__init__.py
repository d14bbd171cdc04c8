"""Annotations on items."""
