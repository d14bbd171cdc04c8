"""Models and their metrics."""
