"""Write a log file for an unexpected error, which the user can send with a report."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

__all__ = ["error_log"]

_PACKAGES = ("selfkd", "torch", "pytorch-lightning", "timm")


def error_log(error: BaseException, arguments: Sequence[str]) -> str:
    """Write an error with its traceback to a new file that only its owner can read.

    Args:
        error: what was raised.
        arguments: of the command.
    Returns: a sentence that names the file, or says that it could not be written.
    """
    try:
        versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        lines = [
            f"selfkd {shlex.join(arguments)}",
            f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {versions}",
            "".join(traceback.format_exception(error)),
        ]
        descriptor, path = tempfile.mkstemp(prefix="selfkd-error-", suffix=".log", text=True)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines))
    except Exception as problem:  # the disk may be full, or memory may have run out
        return f"the details could not be written ({type(problem).__name__}); --debug shows them"
    return f"the details are in {path}; --debug shows them, too"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree on the path
        return "not installed"
