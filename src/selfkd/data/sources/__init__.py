"""Data sets: where the images of each lie, and how they are split."""
