"""The command `selfkd`: `command` parses it and reports errors; one module for each verb parses, calls and prints.

A verb calls the function of its name in `selfkd.api`, as a Python user does.

Nothing is imported here before `main` runs, so that an interruption during the imports is reported like any other.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_STOPPED = 128  # a higher exit status means that a signal stopped the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name. None stands for those of the process; a signal that stops the command
            then also ends the process.
    Returns: 0 done, 1 the work failed, 2 the input is wrong, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
    """
    try:
        from selfkd.cli.command import run

        status = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # during the import; later ones are handled in `run`
        sys.stderr.write("selfkd: interrupted\n")
        return 130
    if arguments is None and status > _STOPPED:
        from selfkd.signals import leave

        leave(status)
    return status
