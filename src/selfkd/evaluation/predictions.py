"""What every head of a method says of a split: one pass over it, whatever is then made of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, distributed, nn

from selfkd.contract import Batch, Features
from selfkd.errors import BackboneError, NonFiniteLossError
from selfkd.eval_mode import eval_mode
from selfkd.methods.base import Method
from selfkd.process_group import process_count, process_rank

__all__ = ["Predictions", "SplitBatches", "collect", "refuse_non_finite", "shared_predictions"]


class SplitBatches(Iterable[Batch], Protocol):
    """Batches of a split whose `indices` are positions in it; fewer labels than images where some only stand in."""

    def to(self, device: torch.device | str) -> None: ...

    def set_shard(self, rank: int, processes: int) -> None: ...


@dataclass(frozen=True)
class Predictions:
    """What the heads of a method said of N labelled images.

    Args:
        logits: head name to `[N, K]`, before softmax.
        labels: `[N]` int64.
        indices: `[N]` int64, the images' positions in their split.
        pooled: `[N, D]`, the vector that the deployed classifier takes; None where it was not asked for.
    """

    logits: Mapping[str, Tensor]
    labels: Tensor
    indices: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Predictions:
        """Every tensor changed by a function of it."""
        return Predictions(
            {head: change(rows_BK) for head, rows_BK in self.logits.items()},
            change(self.labels),
            change(self.indices),
            None if self.pooled is None else change(self.pooled),
        )


def shared_predictions(
    method: Method, loader: SplitBatches, device: torch.device | str, pooled: bool = False
) -> Iterator[Predictions]:
    """The predictions of a split batch by batch, in eval mode, without gradients, in the method's own precision.

    Processes that are connected share out the split: each gets its own images of every batch, perhaps none. Nothing
    waits for the device. Every part's mode is restored at the end.

    Args:
        method: on `device`.
        loader: batches of the split; moved to `device`.
        device: where to compute, and where the predictions are.
        pooled: whether the pooled features are wanted, which costs no second pass.
    """
    loader.to(device)
    loader.set_shard(process_rank(), process_count())
    with eval_mode(method), _pooled_features(method) if pooled else nullcontext() as features:
        for batch in loader:
            assert batch.indices is not None
            with torch.no_grad():
                logits = method.predict(batch.images)
            count = len(batch.labels)
            yield Predictions(
                {head: rows_BK[:count] for head, rows_BK in logits.items()},
                batch.labels,
                batch.indices,
                None if features is None else features()[:count],
            )


def collect(method: Method, loader: SplitBatches, device: torch.device | str, pooled: bool = False) -> Predictions:
    """The predictions of a whole split in its order, in every process that evaluates along.

    They lie in main memory, where the logits of ImageNet's validation split take 0.2 GB a head; a device that holds a
    network may lack that. What adds up over batches, such as an accuracy, needs none of it: see
    `selfkd.evaluation.metrics.evaluate`.

    Args:
        method: on `device`.
        loader: batches of the split; moved to `device`.
        device: where to compute.
        pooled: whether the pooled features are wanted.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit of theirs is NaN or infinite.
    """
    parts = [part.changed(Tensor.cpu) for part in shared_predictions(method, loader, device, pooled)]
    mine = Predictions(
        {head: torch.cat([part.logits[head] for part in parts]) for head in parts[0].logits},
        torch.cat([part.labels for part in parts]),
        torch.cat([part.indices for part in parts]),
        torch.cat([part.pooled for part in parts if part.pooled is not None]) if pooled else None,
    )
    everything = mine.changed(lambda rows: _of_all(rows, torch.device(device)))
    order = everything.indices.argsort()
    refuse_non_finite({head: int((~rows_BK.isfinite()).sum()) for head, rows_BK in everything.logits.items()})
    return everything.changed(lambda rows: rows[order])


def refuse_non_finite(wrong: Mapping[str, int]) -> None:
    """Refuse logits from which nothing can be measured.

    Args:
        wrong: head name to the number of its logits that are NaN or infinite.
    Raises: NonFiniteLossError: naming the heads, if there are any.
    """
    heads = [head for head, number in wrong.items() if number]
    if heads:
        raise NonFiniteLossError(f"logits of {', '.join(heads)} are NaN or infinite")


@contextmanager
def _pooled_features(method: Method) -> Iterator[Callable[[], Tensor]]:
    """What a method's backbone pooled last, `[B, D]`: noted as it passes, so that no method gives more than logits."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Features) -> None:
        seen[:] = [output.pooled]

    def latest() -> Tensor:
        if not seen:
            name = type(method).__name__
            raise BackboneError(f"{name}.predict does not call its backbone, so there are no pooled features of it")
        return seen.pop()

    handle = method.backbone.register_forward_hook(note)
    try:
        yield latest
    finally:
        handle.remove()


def _of_all(rows: Tensor, device: torch.device) -> Tensor:
    """The rows of all processes, first those of the first; on the CPU, exchanged by way of the device."""
    processes = process_count()
    if processes == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(processes)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=device))
    most = max(int(count) for count in counts)
    padded = rows.new_zeros(most, *rows.shape[1:]).to(device)  # an exchange takes equal sizes
    padded[: len(rows)] = rows.to(device)
    gathered = [torch.empty_like(padded) for _ in range(processes)]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(count)].cpu() for part, count in zip(gathered, counts, strict=True)])
