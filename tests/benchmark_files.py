"""Benchmarks are scripts, not a package; tests load them by their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parents[1] / "benchmarks"


def load_benchmark(name: str) -> ModuleType:
    """The module of `benchmarks/<name>.py`, also in a sub-folder; what it imports from its neighbours is found."""
    path = _FOLDER / f"{name}.py"
    loaded = sys.modules.get(path.stem)
    if loaded is not None and loaded.__file__ == str(path):  # perhaps by a neighbour, whose names must stay the same
        return loaded
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
