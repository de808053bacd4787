"""Trained networks that teach others."""
