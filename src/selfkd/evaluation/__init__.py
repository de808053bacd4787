"""Metrics and the pass that feeds them."""
