"""Helpers of the Active Learning Notebook Kit.

A plain ``import alhelpers`` imports no room: each of them (``alhelpers.scores``, ``alhelpers.mining``, ...)
is imported by its own name, so that arrays of scores never cost the start-up time of torch or of a notebook.
"""

__version__ = "0.1.0"
