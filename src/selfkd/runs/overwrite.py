"""What a command may overwrite: a run, of whose folder it deletes only files that a run wrote, and an output file."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from selfkd.errors import OptionError, RunError, few
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import is_checkpoint_file
from selfkd.training.checkpoint_files import keep_newest
from selfkd.training.checkpoint_names import has_checkpoints, is_checkpoint_name

__all__ = ["check_overwritable", "checked_output", "clear"]

# The files that a run writes. Where a kill broke off the writing, the name ends in .partial.
_FILES = re.compile(
    r"(\.lock|recipe\.yaml|data\.json|teacher\.json|starting_weights\.json|metrics\.csv|model\.safetensors|checksums\.json"
    r"|scores\.json|environment\.json"
    r"|checkpoints/best\.ckpt|tensorboard/events\.out\.tfevents\..*|tensorboard/hparams\.yaml"
    r"|export/(last|best)\.safetensors|evaluation/(test|train|validation)-(last|best)\.(json|safetensors))(\.partial)?"
)
_FOLDERS = ("checkpoints", "tensorboard", "export", "evaluation")


def check_overwritable(folder: RunFolder) -> None:
    """Refuse to overwrite a folder that holds anything but a run.

    Raises: RunError: naming what is in the way.
    """
    path = folder.path
    if path.is_symlink():
        raise RunError(
            f"{path} is a link to {path.readlink()}; --overwrite deletes nothing behind a link: remove the link, or "
            "give this run a name= of its own"
        )
    try:
        written, foreign = _contents(path)
    except OSError as error:
        raise RunError(f"the run folder {path} cannot be read: {error}") from error
    if foreign:
        raise RunError(
            f"{path} holds files that no run writes: {few(foreign)}; --overwrite deletes only the files of a run: move "
            "the others away, or give this run a name= of its own"
        )
    if set(written) - {folder.lock_file} and not (folder.is_run or has_checkpoints(folder.checkpoints)):
        raise RunError(
            f"{path} holds no {folder.recipe_file.name} of a run, so --overwrite deletes nothing there: remove the "
            "folder yourself, or give this run a name= of its own"
        )


def clear(folder: RunFolder) -> None:
    """Delete the run in the folder. If this is interrupted, an unfinished run of the old recipe is left.

    Raises: RunError: as `check_overwritable`, and if a file cannot be deleted.
    """
    check_overwritable(folder)
    try:
        folder.scores_file.unlink(missing_ok=True)
        keep_newest(folder.checkpoints, 0)  # in an order that leaves no checkpoint half removed
        written, _ = _contents(folder.path)
        for entry in written:
            if entry in (folder.recipe_file, folder.lock_file):
                continue
            if entry.is_dir():
                entry.rmdir()
            else:
                entry.unlink()
        folder.recipe_file.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"the run folder {folder.path} cannot be emptied: {error}") from error


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


def _contents(root: Path) -> tuple[list[Path], list[str]]:
    """The files and folders that a run wrote, each folder after its files, and the names of all others."""
    written: list[Path] = []
    foreign: list[str] = []

    def look(folder: Path) -> None:
        for entry in sorted(folder.iterdir()):
            name = entry.relative_to(root).as_posix()
            if entry.is_dir() and not entry.is_symlink() and _is_folder_of_a_run(name):
                look(entry)
                written.append(entry)
            elif entry.is_file() and not entry.is_symlink() and _is_file_of_a_run(name):
                written.append(entry)
            else:
                foreign.append(name)

    if root.is_dir():
        look(root)
    return written, foreign


def _is_folder_of_a_run(name: str) -> bool:
    parent, _, last = name.rpartition("/")
    return name in _FOLDERS or (parent == "checkpoints" and is_checkpoint_name(last.removesuffix(".partial")))


def _is_file_of_a_run(name: str) -> bool:
    parent, _, last = name.rpartition("/")
    in_checkpoint = _is_folder_of_a_run(parent) and parent.startswith("checkpoints/") and is_checkpoint_file(last)
    return in_checkpoint or _FILES.fullmatch(name) is not None
