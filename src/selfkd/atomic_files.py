"""Files that are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfkd.errors import StorageError

__all__ = ["written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write to the path given inside; afterwards it replaces `path` in one step.

    Raises: StorageError: if it cannot be written; what was there before stays, and nothing half-written is left.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError when the disk is full
        partial.unlink(missing_ok=True)
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise StorageError(f"{path} cannot be written ({reason}); what was saved before is whole") from error
