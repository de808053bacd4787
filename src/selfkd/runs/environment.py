"""The record of the environment in which a result was made."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from selfkd.training.allocator import allocator_name

__all__ = ["environment", "package_version"]

_CPU_RECORD = Path("/proc/cpuinfo")  # of Linux
_PACKAGES = ("selfkd", "torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics", "numpy")


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, hardware, source commit and the time, without paths and without names of machines or persons.

    Args:
        device: on which the result was made; None for the CPU.
    """
    on_gpu = device is not None and device.type == "cuda"
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "allocator": allocator_name(),
        "commit": _commit(),
    }


def package_version(package: str) -> str | None:
    """A package's version; None if it is not installed, as a source tree on the path, whose commit says more."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    """The model of the CPU; None where the system does not say it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _CPU_RECORD.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        found = None
    return found[1].strip() if found else platform.processor() or None


def _commit() -> str | None:
    """The commit of the source tree, with "+changes" if files differ from it; None for an installed package."""
    try:
        # An installed copy may lie inside another repository, whose commit does not describe it.
        _git("ls-files", "--error-unmatch", __file__)
        commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # no word is a user's
    return done.stdout.strip()
