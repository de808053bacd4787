"""The main memory that is free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["free_main_memory"]

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _CgroupFiles:
    """Files below `_CGROUPS` with a container's memory, and the lines of its statistics that count cached files."""

    limit: str
    used: str
    statistics: str
    cached: tuple[str, ...]


_VERSIONS = (
    _CgroupFiles("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file")),  # 2
    _CgroupFiles(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_active_file", "total_inactive_file"),
    ),  # 1
)


def free_main_memory() -> int | None:
    """Bytes of main memory that this process can still take, within the limits of machine and container.

    Cached files count as free, since the system drops them when it needs the memory.

    Returns: None if the system does not say.
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


def _free_in_the_container(files: _CgroupFiles) -> int | None:
    limit = _whole_number(_CGROUPS / files.limit)
    if limit is None:
        return None
    statistics = _numbers(_text(_CGROUPS / files.statistics) or "")
    cached = sum(size for name, size in statistics if name in files.cached)
    return limit - max((_whole_number(_CGROUPS / files.used) or 0) - cached, 0)


def _numbers(text: str) -> list[tuple[str, int]]:
    """The name and the number of each line that has both."""
    words = [line.split() for line in text.splitlines()]
    return [(each[0], int(each[1])) for each in words if len(each) > 1 and each[1].isdecimal()]


def _whole_number(file: Path) -> int | None:
    try:
        return int(_text(file) or "")
    except ValueError:  # there is no such file, or it says "max"
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
