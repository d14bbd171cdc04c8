"""Recipes and ontologies: the labels of a dataset."""
