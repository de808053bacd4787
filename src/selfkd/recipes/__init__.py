"""Recipes, and the runs that come of them."""
