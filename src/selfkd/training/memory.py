"""Errors that mean too little memory, which torch raises in several forms."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

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
