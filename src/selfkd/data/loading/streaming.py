"""Loaders of images on disk, and of images that are augmented one by one. Worker processes do the work.

A worker gets the positions of a batch and the random numbers of each image, and returns uint8 images. It draws nothing
itself, so no pixel depends on the number of workers.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from selfkd.data.augmentation.augmentations import Augmentation, Unchanged
from selfkd.data.loading.batches import EpochSamples, EvaluationBatches, TrainingBatches
from selfkd.data.splits import ImageSet, IndexedImages
from selfkd.errors import DataError, WorkerKilledError

__all__ = ["StreamingEvaluationLoader", "StreamingTrainingLoader", "killed_workers_named"]

_Task = tuple[
    NDArray[np.int64], NDArray[np.int64]
]  # positions and draws; not tensors, which are sent as file descriptors


class StreamingTrainingLoader(TrainingBatches[ImageSet | IndexedImages]):
    """Training batches of images that are read one by one, or of images in memory that are augmented one by one.

    An augmentation that does not take whole images gets images on disk as networks are evaluated on them.
    """

    def _augmented(self, samples: EpochSamples) -> Iterator[Tensor]:
        tasks = [(positions.numpy(), draws.numpy()) for positions, draws in samples.batches()]
        return _streamed(_Reader(self.data, self.augmentation), tasks, self.workers, self._labels.device)


class StreamingEvaluationLoader(EvaluationBatches[IndexedImages]):
    """Evaluation batches of images that are read one by one."""

    def _images(self, positions: Sequence[range]) -> Iterator[Tensor]:
        tasks = [(np.array(batch, dtype=np.int64), np.empty((1, len(batch), 0), np.int64)) for batch in positions]
        return _streamed(_Reader(self.data, Unchanged()), tasks, self.workers, self._labels.device)


@contextmanager
def killed_workers_named() -> Iterator[None]:
    """Turn torch's error about a killed worker process into ours.

    torch raises it from a signal handler, so it can come from any line of the process that trains.

    Raises: WorkerKilledError: if a worker process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not _names_killed_worker(error):
            raise
        raise WorkerKilledError(
            "a process that reads images was killed, perhaps because memory ran out; fewer loader.workers need less "
            "memory; the same command continues from the last checkpoint"
        ) from error


class _Reader(Dataset[Tensor | DataError]):
    """Reads batches in a worker: the uint8 images `[V*B, 3, S, S]` for positions and draws.

    An image is decoded once for all views. The error of an unreadable image is returned instead of raised, because
    torch would hide the message of an error in a worker in a traceback.
    """

    def __init__(self, data: ImageSet | IndexedImages, augmentation: Augmentation) -> None:
        self.data = data
        self.augmentation = augmentation

    def __getitem__(self, task: _Task) -> Tensor | DataError:
        positions, draws_VBP = task[0].tolist(), torch.from_numpy(task[1])
        try:
            if isinstance(self.data, ImageSet):
                return self._changed(self.data.images[positions], draws_VBP)
            if self.augmentation.side_of_whole_images is None:
                images = torch.stack([self.data.transformed(position) for position in positions])
                return self._changed(images, draws_VBP)
            changed = [
                self._changed(self.data.original(position)[None], draws_VP[:, None])
                for position, draws_VP in zip(positions, draws_VBP.unbind(dim=1), strict=True)
            ]
            return torch.stack(changed, dim=1).flatten(0, 1)
        except DataError as error:
            return error

    def _changed(self, images: Tensor, draws_VBP: Tensor) -> Tensor:
        return torch.cat([self.augmentation(images, draws_BP) for draws_BP in draws_VBP])


def _streamed(reader: _Reader, tasks: Sequence[_Task], workers: int, device: torch.device) -> Iterator[Tensor]:
    """The images of every task in order, on the device.

    Raises: DataError: naming the image that cannot be read; or if the data cannot be sent to worker processes.
    """
    with warnings.catch_warnings():
        # torch would warn in every epoch that there are more workers than it recommends.
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        warnings.filterwarnings("ignore", message="Got pickle error", category=UserWarning)  # our error says it
        loader = DataLoader(
            reader,
            batch_size=None,  # a task is a batch
            sampler=tasks,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_interrupts_to_the_parent,
            generator=torch.Generator(),  # by default it takes its seed from the model's random numbers
        )
        batches = _started(loader)
    for images in batches:
        if isinstance(images, DataError):
            raise images
        yield images.to(device, non_blocking=True)


def _started(loader: DataLoader[Tensor | DataError]) -> Iterator[Tensor | DataError]:
    """The batches of a loader, whose workers have started. A worker that is not forked gets a copy of the data.

    Raises: DataError: with Python's reason, if the data cannot be copied: a user's own `Dataset` may be such data.
    """
    try:
        return iter(loader)
    except Exception as error:  # objects of any kind may refuse in any way
        copies = loader.num_workers > 0 and multiprocessing.get_start_method() != "fork"
        if not copies or isinstance(error, OSError) or _names_killed_worker(error):
            raise
        raise DataError(
            f"the images cannot be sent to the processes that read them: {type(error).__name__}: {error}; "
            "loader.workers=0 reads them in the process that trains"
        ) from error


def _names_killed_worker(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def _as_it_is(images: Any) -> Any:
    return images


def _leave_interrupts_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
