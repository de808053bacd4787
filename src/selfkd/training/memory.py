"""Errors that mean too little memory, which torch raises in several forms."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from selfkd.errors import MemoryExhaustedError, OptionError, first_line

__all__ = ["is_out_of_memory", "memory_for", "memory_to_evaluate"]

# What torch's allocator of main memory says in a plain RuntimeError, its reader of files that maps them, and cuDNN and
# cuBLAS where they get none.
_SAID = (
    "DefaultCPUAllocator: ",
    "not enough memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one from which it came, says that memory has run out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(said in str(cause) for said in _SAID):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def memory_for(doing: str, advice: str) -> Iterator[None]:
    """Let too little memory for what is done here end it with an error of ours.

    Args:
        doing: what is done, as the subject of a sentence ("reading the data").
        advice: what might fit.
    Raises: MemoryExhaustedError: that says both.
    """
    try:
        yield
    except Exception as error:
        said = isinstance(error, MemoryExhaustedError | OptionError)  # which option, or how much
        if said or not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"{doing} needs more memory than there is ({first_line(error)}); {advice}"
        ) from error


def memory_to_evaluate(batch_size: int) -> AbstractContextManager[None]:
    """`memory_for` an evaluation.

    Args:
        batch_size: images in a batch of evaluation, of all processes together.
    """
    return memory_for(
        f"evaluating with loader.evaluation_batch_size={batch_size}",
        "the same command with a smaller one might fit; a training continues from its last checkpoint",
    )
