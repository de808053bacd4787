"""`python -m selfkd` is the command `selfkd`."""

import os
import sys

if not sys.flags.safe_path:
    # `python -m` looks for modules in the working folder first, which may be a downloaded one: nothing there may run.
    try:
        working_folder = os.getcwd()  # noqa: PTH109  # pathlib, not imported yet, would be looked for there, too
    except OSError:  # it is gone
        working_folder = ""
    if sys.path[0] in ("", working_folder):
        del sys.path[0]

from selfkd.cli import main

sys.exit(main())
