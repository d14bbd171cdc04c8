"""Labelling work: tasks over items, and the assignments that share them out."""
