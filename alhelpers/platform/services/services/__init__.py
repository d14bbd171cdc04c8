"""Deployed functions: a module of a dpk, ready to execute."""
