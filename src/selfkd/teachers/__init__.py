"""Trained networks that teach others, and where they come from. This module does not import torch."""

from __future__ import annotations

from selfkd.catalogue import Catalogue, Entry

__all__ = ["TEACHERS"]

TEACHERS = Catalogue(
    "teacher",
    {
        "recipe": Entry(f"{__name__}.origins:FromRecipe", "a recipe, which is trained first if it is not finished"),
        "run": Entry(f"{__name__}.origins:FromRun", "the folder of a finished run"),
        "file": Entry(f"{__name__}.origins:FromFile", "a file of weights: safetensors or a state dict"),
        "timm": Entry(f"{__name__}.origins:FromTimm", "a network of timm with its published weights"),
    },
    listing="write teacher=recipe teacher.recipe=<name>, or teacher=run teacher.path=<folder>: docs/recipes.md",
)
