"""Datasets and their directory trees."""
