"""Errors that mean too little memory, which torch raises in several forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from selfkd.errors import MemoryExhaustedError

__all__ = ["is_out_of_memory", "memory_to_evaluate"]

# What torch's allocator of main memory says in a plain RuntimeError, and cuDNN and cuBLAS where they get none.
_SAID = ("DefaultCPUAllocator: ", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one from which it came, says that memory has run out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(cause, RuntimeError) and any(said in str(cause) for said in _SAID):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def memory_to_evaluate(batch_size: int) -> Iterator[None]:
    """Let too little memory for what is done here end it with an error of ours.

    Args:
        batch_size: images in a batch of evaluation, of all processes together.
    Raises: MemoryExhaustedError: with what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            f"evaluating with loader.evaluation_batch_size={batch_size} needs more memory than there is ({error}); "
            "the same command with a smaller one continues from the last checkpoint"
        ) from error
