"""Print the direct dependencies of pyproject.toml at their declared floors, one requirement a line."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("parquet", "tensorboard")


def main() -> int:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]:
        if not re.fullmatch(r"[\w.-]+(\[[\w,]+\])?>=[\d.]+", requirement):
            print(f"{requirement!r} declares no plain floor, such as name>=1.2", file=sys.stderr)
            return 1
        print(requirement.replace(">=", "=="))
    return 0


if __name__ == "__main__":
    sys.exit(main())
