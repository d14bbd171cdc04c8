"""Scores: how well annotators did in tasks, as dtlpymetrics works it out and the SDK reads it."""
