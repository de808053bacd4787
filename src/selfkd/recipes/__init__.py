"""Recipes: files of data, and the reader that resolves them."""
