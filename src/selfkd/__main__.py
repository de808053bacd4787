"""`python -m selfkd` is the command `selfkd`."""

import sys

if not sys.flags.safe_path:
    # `python -m` looks for modules in the working folder first, which may be a downloaded one: nothing there may run.
    del sys.path[0]

from selfkd.cli import main

sys.exit(main())
