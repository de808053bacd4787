"""Modules that methods add to a backbone's stages for training. Import each from its own module."""
