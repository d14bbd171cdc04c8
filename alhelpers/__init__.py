"""Helpers of the Active Learning Notebook Kit.

A plain ``import alhelpers`` imports nothing else: each module (``alhelpers.scores``, ``alhelpers.mining``, ...)
is imported by its own name, so that arrays of scores never cost the start-up time of torch or of a notebook.
"""

from alhelpers import _moved

__version__ = "0.2.0"

_moved.install()
del _moved
