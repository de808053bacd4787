"""Files that can be read without waiting for somebody: no pipes, sockets or devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["regular_status"]


def regular_status(file: Path) -> os.stat_result:
    """The status of a regular file, links followed.

    Raises: OSError: if it is missing, or something that opening would wait for, such as a pipe.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")
    return status
