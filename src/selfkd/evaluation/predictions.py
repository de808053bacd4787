"""The predictions of every head of a method for a split, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, distributed, nn
from tqdm.auto import tqdm

from selfkd.contract import Batch, Features
from selfkd.errors import BackboneError, NonFiniteLossError
from selfkd.eval_mode import eval_mode
from selfkd.methods.base import Method
from selfkd.process_group import process_count, process_rank

__all__ = [
    "Predictions",
    "ShownBatches",
    "SplitBatches",
    "collect",
    "count_non_finite",
    "gathered",
    "predict_batches",
    "refuse_non_finite",
]

_BATCH = 1000  # images


class SplitBatches(Iterable[Batch], Protocol):
    """Batches of a split. Their `indices` are positions in the split. Images after the last label are padding."""

    def to(self, device: torch.device | str) -> None: ...

    def set_shard(self, rank: int, processes: int) -> None: ...


class ShownBatches:
    """Batches of a split, with a progress bar on a terminal.

    Args:
        batches: of a split.
        bar: counts their images.
    """

    def __init__(self, batches: SplitBatches, bar: tqdm[Any]) -> None:
        self._batches = batches
        self._bar = bar

    @classmethod
    @contextmanager
    def over(cls, batches: SplitBatches, images: int, title: str) -> Iterator[Self]:
        """Show a bar within this block.

        Args:
            batches: of a split.
            images: their number.
            title: text before the bar.
        """
        with tqdm(total=images, desc=title, unit="image", disable=None) as bar:
            yield cls(batches, bar)

    def to(self, device: torch.device | str) -> None:
        self._batches.to(device)

    def set_shard(self, rank: int, processes: int) -> None:
        self._batches.set_shard(rank, processes)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            yield batch
            self._bar.update(len(batch.labels))


@dataclass(frozen=True)
class Predictions:
    """The predictions of a method's heads for N labelled images.

    Args:
        logits: head name to `[N, K]`, before softmax.
        labels: `[N]` int64.
        indices: `[N]` int64, the images' positions in their split.
        pooled: `[N, D]`, the input of the deployed classifier; None if it was not asked for.
    """

    logits: Mapping[str, Tensor]
    labels: Tensor
    indices: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def in_batches(self) -> Iterator[Predictions]:
        """The same predictions in parts, for work that needs more memory than they take."""
        for start in range(0, len(self), _BATCH):
            yield self.take(slice(start, start + _BATCH))

    def take(self, positions: Tensor | slice) -> Predictions:
        """The predictions at these positions, `[M]` or a slice, in this order."""
        return self.map(lambda rows: rows[positions])

    def map(self, function: Callable[[Tensor], Tensor]) -> Predictions:
        """Apply a function to every tensor."""
        return Predictions(
            {head: function(rows_BK) for head, rows_BK in self.logits.items()},
            function(self.labels),
            function(self.indices),
            None if self.pooled is None else function(self.pooled),
        )


def predict_batches(
    method: Method, loader: SplitBatches, device: torch.device | str, pooled: bool = False
) -> Iterator[Predictions]:
    """Predict a split batch by batch, in eval mode, without gradients, in the method's own precision.

    Each connected process predicts its own images of every batch, perhaps none. Nothing waits for the device. Every
    module's mode is restored at the end.

    Args:
        method: on `device`.
        loader: batches of the split, which are moved to `device`.
        device: on which to compute. The predictions stay there.
        pooled: also give the pooled features, which needs no second pass.
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
    """Predict a whole split, in its order. Every connected process gets all predictions.

    They are kept in main memory, where the logits of ImageNet's validation split take 0.2 GB for each head. A metric
    that adds up over batches, such as an accuracy, does not need them: see `selfkd.evaluation.metrics.evaluate`.

    Args:
        method: on `device`.
        loader: batches of the split, which are moved to `device`.
        device: on which to compute.
        pooled: also give the pooled features.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit is NaN or infinite.
    """
    return gathered([part.map(Tensor.cpu) for part in predict_batches(method, loader, device, pooled)], device)


def gathered(parts: Sequence[Predictions], device: torch.device | str) -> Predictions:
    """The predictions for a whole split, in its order, from the batches of every connected process.

    Args:
        parts: one or more batches of this process, in main memory.
        device: on which the processes exchange them.
    Raises: NonFiniteLossError: in all processes, naming the heads, if a logit is NaN or infinite.
    """
    own = Predictions(
        {head: torch.cat([part.logits[head] for part in parts]) for head in parts[0].logits},
        torch.cat([part.labels for part in parts]),
        torch.cat([part.indices for part in parts]),
        None if parts[0].pooled is None else torch.cat([part.pooled for part in parts if part.pooled is not None]),
    )
    everything = own.map(lambda rows: _gather(rows, torch.device(device)))
    refuse_non_finite(count_non_finite(everything.logits))
    if process_count() == 1:
        return everything  # in the order of the split; another copy might not fit in memory
    order = everything.indices.argsort()
    return everything.map(lambda rows: rows[order])


def count_non_finite(logits: Mapping[str, Tensor]) -> dict[str, int]:
    """Head name to the number of logits `[B, K]` that are NaN or infinite. Waits for the device."""
    return {head: int((~rows_BK.isfinite()).sum()) for head, rows_BK in logits.items()}


def refuse_non_finite(counts: Mapping[str, int]) -> None:
    """Refuse logits that are NaN or infinite.

    Args:
        counts: head name to the number of such logits.
    Raises: NonFiniteLossError: naming the heads, if a number is not 0.
    """
    heads = [head for head, number in counts.items() if number]
    if heads:
        raise NonFiniteLossError(f"logits of {', '.join(heads)} are NaN or infinite")


@contextmanager
def _pooled_features(method: Method) -> Iterator[Callable[[], Tensor]]:
    """Gives a function that returns the last pooled features `[B, D]` of the backbone of any method."""
    latest: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Features) -> None:
        latest[:] = [output.pooled]

    def take() -> Tensor:
        if not latest:
            raise BackboneError(f"{type(method).__name__}.predict does not call its backbone, so it pools no features")
        return latest.pop()

    handle = method.backbone.register_forward_hook(keep)
    try:
        yield take
    finally:
        handle.remove()


def _gather(rows: Tensor, device: torch.device) -> Tensor:
    """The rows of all processes in the order of their ranks, on the CPU. They are exchanged on the device."""
    processes = process_count()
    if processes == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(processes)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=device))
    most = max(int(count) for count in counts)
    padded = rows.new_zeros(most, *rows.shape[1:]).to(device)  # all_gather needs equal sizes
    padded[: len(rows)] = rows.to(device)
    gathered = [torch.empty_like(padded) for _ in range(processes)]
    distributed.all_gather(gathered, padded)
    return torch.cat([part[: int(count)].cpu() for part, count in zip(gathered, counts, strict=True)])
