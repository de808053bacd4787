"""The command `selfkd`: `command` reads it and reports, one module per verb parses, calls and prints.

Nothing is imported here before `main` runs: what stops it while it imports is reported as later on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_STOPPED = 128  # above it, an exit status is that of a stop by a signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None for those of the process, which a stop then ends here.
    Returns: 0 done, 1 the work failed, 2 the user's input is wrong, 130 or 143 interrupted
        by Ctrl-C or SIGTERM.
    """
    try:
        from selfkd.cli.command import run

        status = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # while that was imported; later ones end there
        sys.stderr.write("selfkd: interrupted\n")
        return 130
    if arguments is None and status > _STOPPED:
        from selfkd.training.signals import leave

        leave(status)
    return status
