"""A run's plain network in `model.safetensors`, and its checksum beside it."""

from __future__ import annotations

from torch import nn

from selfkd.errors import RunError
from selfkd.export.network_files import save_network
from selfkd.runs.records import read_record, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import checksum

__all__ = ["network_file_fault", "network_metadata", "write_network_file"]


def write_network_file(
    folder: RunFolder, network: nn.Module, class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int
) -> None:
    """Write a run's plain network, which has the weights of the last epoch, and the checksum of the file.

    The other arguments are those of `network_metadata`.

    Raises: StorageError: if a file cannot be written.
    """
    save_network(network, folder.network_file, network_metadata(class_names, input_size, epoch))
    write_json(folder.checksums_file, {folder.network_file.name: checksum(folder.network_file)})


def network_metadata(class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int) -> dict[str, object]:
    """What a file holds beside the weights of a run's network.

    Args:
        class_names: K names in label order.
        input_size: (channels, height, width) of an image.
        epoch: after which the weights were saved, counted from 1.
    """
    return {"class_names": class_names, "input_size": input_size, "epoch": epoch}


def network_file_fault(folder: RunFolder) -> str | None:
    """What is wrong with a run's network file or with its checksum, as a sentence; None if nothing is."""
    for file in (folder.network_file, folder.checksums_file):
        if not file.is_file():
            return f"{file} is {'no file' if file.exists() else 'missing'}"
    try:
        expected = read_record(folder.checksums_file).get(folder.network_file.name)
        matches = expected == checksum(folder.network_file)
    except (RunError, OSError) as error:
        return str(error)
    return None if matches else f"{folder.network_file} is damaged or belongs to another run"
