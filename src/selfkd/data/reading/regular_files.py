"""Regular files. Pipes, sockets and devices are not, and reading one could wait for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["regular_status"]


def regular_status(file: Path) -> os.stat_result:
    """The status of a regular file; links are followed.

    Raises: OSError: if it is missing, or no regular file, such as a pipe.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    return status
