"""Check where a command may write the file that its user names."""

from __future__ import annotations

import stat
from pathlib import Path

from selfkd.errors import OptionError
from selfkd.runs.run_folder import RunFolder

__all__ = ["checked_output"]


def checked_output(output: Path, overwrite: bool, suffix: str = "") -> Path:
    """Check that a file may be written, and follow its links. Nothing is written.

    Args:
        output: as the user wrote it.
        overwrite: whether an ordinary file that exists may be replaced. A file of a run never may.
        suffix: with which the name must end; "" for any name.
    Returns: the file, links followed.
    Raises: OptionError: if the file may not be written.
    """
    text = str(output)
    try:
        file = output.resolve()
        mode = file.stat().st_mode if file.exists() else None
    except (OSError, RuntimeError, ValueError) as error:  # also links in a circle, and null bytes
        raise OptionError("output", text, f"a file that can be written ({error})") from error
    if mode is not None and not stat.S_ISREG(mode):
        raise OptionError("output", text, "an ordinary file; this is a folder, a device or the like")
    if suffix and file.suffix != suffix:
        raise OptionError("output", text, f"a name that ends in {suffix}, the format of the file")
    for parent in file.parents:
        inside = file.relative_to(parent).parts
        if RunFolder(parent).is_run and (len(inside) != 2 or inside[0] != "export"):
            reason = f"it lies in the run folder {parent}, where only export/ takes new files; choose another place"
            raise OptionError("output", text, reason=reason)
    if mode is not None and not overwrite:
        raise OptionError("output", text, "a file that does not exist yet; --overwrite replaces this one")
    return file
