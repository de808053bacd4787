"""Load a run in Python: its network, or its method with all heads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor, nn

from selfkd.methods.base import Method
from selfkd.recipes.recipe import Recipe
from selfkd.runs.saved_run import MORE_MEMORY, SavedRun
from selfkd.training.memory import memory_for

__all__ = ["LoadedRun", "load", "load_method"]


@dataclass(frozen=True)
class LoadedRun:
    """A run's network and all that is needed to use it.

    Args:
        network: plain, in eval mode, with the weights of the last trained epoch.
        class_names: K names in label order.
        transform: turns a PIL image into the `[C, H, W]` tensor that the network takes in a batch.
        input_size: (channels, height, width) of that tensor.
        recipe: the recipe that was trained.
    """

    network: nn.Module
    class_names: tuple[str, ...]
    transform: Callable[[Image.Image], Tensor]
    input_size: tuple[int, int, int]
    recipe: Recipe


def load(run: str | os.PathLike[str], trust_imports: bool = False) -> LoadedRun:
    """Load a run's network. An unfinished run is loaded from its newest undamaged checkpoint, with a warning.

    Args:
        run: its folder.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        RunError: if there is no such run or it has no checkpoint yet.
        RecipeError: if its recipe names code of the user's own and that is not trusted.
        CheckpointError: if its network file and all checkpoints are damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(run, trust_imports=trust_imports)
    with memory_for("loading the network", MORE_MEMORY):
        network, _ = saved.network()
    return LoadedRun(network.eval(), saved.class_names, saved.transform, saved.input_size, saved.recipe)


def load_method(run: str | os.PathLike[str], which: str = "last", trust_imports: bool = False) -> Method:
    """Load the method that a run trained, in eval mode on the CPU. The run's data is not read.

    An unfinished run is loaded from its newest undamaged checkpoint, with a warning.

    Args:
        run: its folder.
        which: weights of the "last" or the "best" epoch.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
    Raises:
        OptionError: if `which` is neither.
        RunError: if there is no such run, it has no such weights yet, an older version left it unfinished, or it does
            not hold the labels that its method needs.
        RecipeError: if its recipe names code of the user's own and that is not trusted.
        CheckpointError: if every checkpoint is damaged.
        MemoryExhaustedError: if there is too little memory.
    """
    saved = SavedRun.open(run, which, trust_imports=trust_imports)
    with memory_for("loading the method", MORE_MEMORY):
        return saved.method().eval()
