"""Recognise the errors that mean too little memory, and report them in one way."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from selfkd.errors import MemoryExhaustedError, OptionError, first_line

__all__ = ["is_out_of_memory", "memory_for", "memory_to_evaluate"]

# torch reports too little memory in a plain RuntimeError. These texts come from its CPU allocator, from the mapping of
# files into memory, and from cuBLAS and cuDNN.
_MESSAGES = (
    "DefaultCPUAllocator: ",
    "not enough memory",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or an error that caused it, says that memory has run out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return True
        if isinstance(cause, RuntimeError) and any(message in str(cause) for message in _MESSAGES):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def memory_for(doing: str, advice: str) -> Iterator[None]:
    """Raise a `MemoryExhaustedError` if memory runs out in this block.

    Args:
        doing: the work of this block, as the subject of a sentence ("reading the data").
        advice: what the user can do.
    Raises: MemoryExhaustedError: with the work and the advice.
    """
    try:
        yield
    except Exception as error:
        is_explained = isinstance(error, MemoryExhaustedError | OptionError)
        if is_explained or not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"{doing} needs more memory than there is ({first_line(error)}); {advice}"
        ) from error


def memory_to_evaluate(batch_size: int) -> AbstractContextManager[None]:
    """`memory_for` an evaluation.

    Args:
        batch_size: number of images in an evaluation batch, over all processes.
    """
    return memory_for(
        f"evaluating with loader.evaluation_batch_size={batch_size}",
        "the same command with a smaller one might fit; a training continues from its last checkpoint",
    )
