"""Loaders that make batches of a split, for training and for evaluation. `loaders` chooses the loader for a split."""
