"""The embedded default: what `selfkd train` trains when it is told nothing."""

__all__ = ["DEMO_RECIPES", "DEMO_SEEDS"]

DEMO_RECIPES = ("demo/digits/resnet18/plain", "demo/digits/resnet18/dtskd")
DEMO_SEEDS = (0, 1, 2)
