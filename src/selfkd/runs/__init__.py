"""Runs: from a recipe to a folder that holds everything needed to check, resume, compare or ship the result."""
