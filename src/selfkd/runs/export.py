"""Export a run's plain network to a file of its own."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from selfkd.export.network_files import SUFFIX, export_network
from selfkd.given_paths import expanded
from selfkd.option_checks import one_of
from selfkd.runs.loading import MORE_MEMORY, SavedRun
from selfkd.runs.networks import plain_network
from selfkd.runs.overwrite import checked_output
from selfkd.runs.run_folder import RunFolder
from selfkd.training.memory import memory_for

__all__ = ["export_run"]

_FORMATS = ("safetensors",)


def export_run(
    run: str | os.PathLike[str],
    checkpoint: str,
    output: str | os.PathLike[str] | None = None,
    *,
    trust_imports: bool = False,
    overwrite: bool = False,
    format: str = "safetensors",  # noqa: A002  # the command's name for it
) -> tuple[Path, float]:
    """Write a run's plain network to a file, load the file again, and compare the logits of both.

    Args:
        run: folder of a run. An unfinished run is exported from its newest undamaged checkpoint, with a warning.
        checkpoint: weights of the "last" or the "best" epoch.
        output: the file; None for `export/<checkpoint>.safetensors` in the run folder, where an older export is
            replaced.
        trust_imports: let the run's recipe name `package.module:Name`, whose import runs code.
        overwrite: replace `output` if it exists.
        format: format of the file; "safetensors".
    Returns: the file, and the largest absolute difference of a logit.
    Raises:
        RunError: if there is no such run or it has no checkpoint yet.
        OptionError: if `checkpoint` or `format` has another value, `output` cannot be written there, or it exists and
            is not to be replaced.
        StorageError: if the file cannot be written.
        CheckpointError: if the checkpoint is damaged.
        ParityError: if the logits differ. No file is written then, and an older one stays.
        MemoryExhaustedError: if there is too little memory.
    """
    one_of("format", format, _FORMATS)
    one_of("checkpoint", checkpoint, ("last", "best"))
    folder = RunFolder.existing(Path(run))
    path = folder.path / "export" / f"{checkpoint}{SUFFIX}" if output is None else expanded(output)
    is_ours = output is None and not path.parent.is_symlink() and not path.is_symlink()
    file = checked_output(path, overwrite or is_ours, SUFFIX)
    saved = SavedRun.open(folder.path, checkpoint, trust_imports=trust_imports)
    with memory_for("exporting", MORE_MEMORY):
        trained, epoch = saved.network()
        untrained = plain_network(saved.recipe, len(saved.class_names))
        metadata = asdict(saved.metadata(epoch))
        difference = export_network(trained, untrained, file, saved.input_size, metadata, among_others=not is_ours)
    return path, difference
