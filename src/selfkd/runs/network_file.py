"""A run's plain network in `model.safetensors`, and its checksum beside it."""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from selfkd.data.sources.base import Source
from selfkd.errors import RunError
from selfkd.export.network_files import save_network
from selfkd.export.network_metadata import NetworkMetadata
from selfkd.runs.records import read_record, write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_content import checksum

__all__ = ["network_file_fault", "network_metadata", "write_network_file"]


def write_network_file(folder: RunFolder, network: nn.Module, metadata: NetworkMetadata) -> None:
    """Write a run's plain network, which has the weights of the last epoch, and the checksum of the file.

    Raises: StorageError: if a file cannot be written.
    """
    save_network(network, folder.network_file, asdict(metadata))
    write_json(folder.checksums_file, {folder.network_file.name: checksum(folder.network_file)})


def network_metadata(
    source: Source, class_names: tuple[str, ...], input_size: tuple[int, int, int], epoch: int
) -> NetworkMetadata:
    """What a file holds beside the weights of a run's network.

    Args:
        source: the run's data set, which says how images are prepared.
        class_names: K names in label order.
        input_size: (channels, height, width) of an image.
        epoch: after which the weights were saved, counted from 1.
    """
    interpolation: str | None = getattr(source, "interpolation", None)  # not all data sets change the size of images
    resize = None if interpolation is None else getattr(source, "resize", None) or input_size[-1]
    return NetworkMetadata(
        class_names=class_names,
        input_size=input_size,
        epoch=epoch,
        mean=tuple(source.mean),
        std=tuple(source.std),
        interpolation=interpolation,
        resize=resize,
    )


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
