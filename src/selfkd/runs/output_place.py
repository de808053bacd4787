"""Where a command may write a file that its user names."""

from __future__ import annotations

import stat
from pathlib import Path

from selfkd.errors import OptionError
from selfkd.runs.run_folder import RunFolder

__all__ = ["output_place"]


def output_place(output: Path, overwrite: bool, suffix: str = "") -> Path:
    """Where a file that is to be written really lies, links followed. Nothing is written.

    Args:
        output: as the user named it.
        overwrite: whether an ordinary file that is there may be replaced; none of a run ever may.
        suffix: with which its name must end; "" for any name.
    Raises: OptionError: if nothing may be written there.
    """
    shown = str(output)
    try:
        place = output.resolve()
        mode = place.stat().st_mode if place.exists() else None
    except (OSError, RuntimeError, ValueError) as error:  # also of links that lead in a circle, and of null bytes
        raise OptionError("output", shown, f"a file that can be written ({error})") from error
    if mode is not None and not stat.S_ISREG(mode):
        raise OptionError("output", shown, "an ordinary file; this is a folder, a device or the like")
    if suffix and place.suffix != suffix:
        raise OptionError("output", shown, f"a name that ends in {suffix}, the format that is written")
    for parent in place.parents:
        inside = place.relative_to(parent).parts
        if RunFolder(parent).is_run and (len(inside) != 2 or inside[0] != "export"):
            raise OptionError("output", shown, f"outside of the run folder {parent}, or directly in its export/")
    if mode is not None and not overwrite:
        raise OptionError("output", shown, "a file that does not exist yet; --overwrite replaces this one")
    return place
