"""`python -m selfkd` is the command `selfkd`."""

import sys

from selfkd.cli import main

sys.exit(main())
