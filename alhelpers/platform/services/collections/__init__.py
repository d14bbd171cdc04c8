"""Collections: named groups of the items of a dataset."""
