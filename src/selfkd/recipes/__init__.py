"""Recipes: YAML files, and the reader that resolves them."""
