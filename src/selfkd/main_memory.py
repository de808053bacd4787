"""The main memory that can still be had."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["free_main_memory"]

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Names:
    """Of a container's files of memory below `_CGROUPS`, and in its statistics, of what the system keeps of files."""

    limit: str
    used: str
    statistics: str
    of_files: tuple[str, ...]


_VERSIONS = (
    _Names("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file")),  # 2
    _Names(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_active_file", "total_inactive_file"),
    ),  # 1
)


def free_main_memory() -> int | None:
    """Bytes of main memory that can be had, at most: as many as machine and container leave.

    What the system keeps of files that were read counts as free: it is given up when it is needed.

    Returns: None where the system does not say.
    """
    known = [free for free in (_free_on_the_machine(), *map(_free_in_the_container, _VERSIONS)) if free is not None]
    return max(min(known), 0) if known else None


def _free_on_the_machine() -> int | None:
    meminfo = _text(_MEMINFO)
    if meminfo is not None:
        return next((1024 * size for name, size in _numbers(meminfo) if name == "MemAvailable:"), None)
    try:  # no Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _free_in_the_container(names: _Names) -> int | None:
    limit = _whole_number(_CGROUPS / names.limit)
    if limit is None:
        return None
    statistics = _numbers(_text(_CGROUPS / names.statistics) or "")
    of_files = sum(size for name, size in statistics if name in names.of_files)
    return limit - max((_whole_number(_CGROUPS / names.used) or 0) - of_files, 0)


def _numbers(text: str) -> list[tuple[str, int]]:
    """The lines that are a name and a number."""
    words = [line.split() for line in text.splitlines()]
    return [(each[0], int(each[1])) for each in words if len(each) > 1 and each[1].isdecimal()]


def _whole_number(file: Path) -> int | None:
    try:
        return int(_text(file) or "")
    except ValueError:  # there is none, or it is "max"
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
