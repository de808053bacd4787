"""Predictions of a split in one pass, metrics of predictions, and scores with their unit."""
