"""Exports and the commands that report them."""
