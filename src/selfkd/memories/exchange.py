"""What each process wrote in an epoch, given to all others."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from selfkd.memories.generations import Generation, in_chunks

__all__ = ["share_writes"]


def share_writes(generation: Generation, row_bytes: int) -> bool:
    """Let every process write what any process wrote; of a sample that several wrote, the first one's row stays.

    Called by all processes together. Each in turn sends its rows, some at a time, as the bytes that are stored.

    Args:
        generation: what this epoch wrote, on whatever device.
        row_bytes: of one sample.
    Returns: whether anybody had written anything.
    """
    wire = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    mine = generation.written.nonzero(as_tuple=True)[0]
    total = 0
    for source in range(dist.get_world_size()):
        sending = source == dist.get_rank()
        count = torch.tensor([len(mine) if sending else 0], device=wire)
        dist.broadcast(count, source)
        indices = mine.to(wire) if sending else torch.empty(int(count), dtype=torch.int64, device=wire)
        if len(indices):
            dist.broadcast(indices, source)
        total += len(indices)
        for chunk in in_chunks(indices.to(generation.device), row_bytes):
            received = tuple(_broadcast(field, chunk, source, sending, wire) for field in generation.fields)
            if not sending:
                generation.put(chunk, received)
    return total > 0


def _broadcast(field: Tensor, indices: Tensor, source: int, sending: bool, wire: torch.device) -> Tensor:
    """Some rows of a table, from the process that sends them; as bytes, which every backend takes."""
    shape = (len(indices), *field.shape[1:])
    rows = field[indices].to(wire) if sending else torch.empty(shape, dtype=field.dtype, device=wire)
    dist.broadcast(rows.view(torch.uint8), source)
    return rows.to(field.device)
