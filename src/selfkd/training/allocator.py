"""The memory allocator of this process, and a hint when jemalloc would be faster."""

from __future__ import annotations

import ctypes.util
import platform
import re
from pathlib import Path

__all__ = ["allocator_name", "jemalloc_advice"]

_MAPS = Path("/proc/self/maps")  # Linux: the files that this process has loaded
_REPLACEMENTS = re.compile(r"/lib(jemalloc|tcmalloc|mimalloc)[^/]*\.so[^/]*$", re.MULTILINE)
_GLIBC = "glibc"
_LARGE = 16 << 20
"""Bytes of the largest tensor of the step that docs/step-cost.md measures with jemalloc and without."""
_SETTINGS = "oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1"


def allocator_name() -> str | None:
    """The loaded allocator: jemalloc, tcmalloc, mimalloc or glibc; None if it is none of these."""
    loaded = _REPLACEMENTS.search(_MAPS.read_text(encoding="utf-8", errors="replace")) if _MAPS.exists() else None
    return loaded[1] if loaded else platform.libc_ver()[0] or None


def jemalloc_advice(largest_tensor: int) -> str | None:
    """A line for the log of a training on a CPU: which allocator replaces the system's, or how to use jemalloc.

    Args:
        largest_tensor: approximate size in bytes of the largest tensor in a step.
    Returns: None if the tensors are small, or jemalloc is not installed.
    """
    name = allocator_name()
    if name != _GLIBC:
        return f"memory allocator: {name}" if name else None
    library = ctypes.util.find_library("jemalloc") if largest_tensor >= _LARGE else None
    if library is None:
        return None
    return (
        f"{library} is installed and can make this training faster, because its tensors are large (docs/step-cost.md); "
        f"to use it, write before the command: LD_PRELOAD={library} MALLOC_CONF={_SETTINGS}"
    )
