"""The exchange of an epoch's predictions between the processes that train together."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from selfkd.memories.prediction_table import PredictionTable, in_chunks

__all__ = ["exchange_writes"]


def exchange_writes(table: PredictionTable, row_bytes: int) -> bool:
    """Write into each process's table what any process wrote. If several wrote a sample, the first one's row stays.

    All processes call this together. Each in turn broadcasts its rows, chunk by chunk, as the bytes that it stores.

    Args:
        table: what this process wrote in this epoch, on any device.
        row_bytes: bytes of one sample's row.
    Returns: whether any process had written anything.
    """
    wire = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    mine = table.written.nonzero(as_tuple=True)[0]
    total = 0
    for source in range(dist.get_world_size()):
        sending = source == dist.get_rank()
        count = torch.tensor([len(mine) if sending else 0], device=wire)
        dist.broadcast(count, source)
        indices = mine.to(wire) if sending else torch.empty(int(count), dtype=torch.int64, device=wire)
        if len(indices):
            dist.broadcast(indices, source)
        total += len(indices)
        for chunk in in_chunks(indices.to(table.device), row_bytes):
            received = tuple(_broadcast(field, chunk, source, sending, wire) for field in table.fields)
            if not sending:
                table.write(chunk, received)
    return total > 0


def _broadcast(field: Tensor, indices: Tensor, source: int, sending: bool, wire: torch.device) -> Tensor:
    """Broadcast some rows of one field from the process `source`; as bytes, which every backend takes."""
    shape = (len(indices), *field.shape[1:])
    rows = field[indices].to(wire) if sending else torch.empty(shape, dtype=field.dtype, device=wire)
    dist.broadcast(rows.view(torch.uint8), source)
    return rows.to(field.device)
