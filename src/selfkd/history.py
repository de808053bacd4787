"""The soft-label history: what every head predicted for every training sample in the last epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from selfkd.errors import BatchError
from selfkd.losses.labels import label_probabilities
from selfkd.option_checks import at_least

__all__ = ["History"]


class History:
    """Predictions of the previous epoch, by sample index, for several heads.

    Two generations are kept: reads see what was written before the last `advance`, writes go to the next generation.
    A killed epoch can therefore be replayed from its start, and a sample drawn twice in one epoch reads the same row
    both times. A row that an epoch does not write keeps its older value; a row never written reads as the label.

    It is no module buffer on purpose: data-parallel training broadcasts buffers and would undo other ranks' writes.
    Storage is dense and is allocated on the device of the first write; no call synchronises with the host,
    except `advance` once per epoch.

    Args:
        num_samples: size of the training set, >= 1.
        num_classes: K, >= 2.
        heads: names of the heads, in storage order.
        dtype: floating type of the stored probabilities.
    Raises: OptionError: if a size is out of range or `heads` is empty.
    Source: Kim et al. 2021 (PS-KD), section 3.2; Li et al. (DTSKD), historical teacher.
    """

    def __init__(
        self, num_samples: int, num_classes: int, heads: Sequence[str], dtype: torch.dtype = torch.float32
    ) -> None:
        self.num_samples = at_least("num_samples", num_samples, 1)
        self.num_classes = at_least("num_classes", num_classes, 2)
        self.heads = tuple(heads)
        at_least("number of heads", len(self.heads), 1)
        self.dtype = dtype
        self._previous: Tensor | None = None  # [N, heads, K]
        self._next: Tensor | None = None
        self._previous_written: Tensor | None = None  # [N] bool
        self._next_written: Tensor | None = None
        self.unfinished = False
        """Whether something was written since the last `advance`."""

    @property
    def nbytes(self) -> int:
        """Bytes that both generations take once allocated."""
        row = len(self.heads) * self.num_classes * self.dtype.itemsize + 1
        return 2 * self.num_samples * row

    def read(self, indices: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Each head's prediction in the previous epoch.

        Args:
            indices: `[B]` int64 in [0, num_samples).
            labels: `[B]` int64, or soft `[B, K]`: what rows never written read as.
        Returns: head name to `[B, K]` float32 probabilities without gradient.
        """
        label_BK = label_probabilities(labels, self.num_classes)
        if self._previous is None or self._previous_written is None:
            return dict.fromkeys(self.heads, label_BK)
        self._check_range(indices)
        rows_BHK = self._previous[indices].float()
        known_B11 = self._previous_written[indices][:, None, None]
        read_BHK = torch.where(known_B11, rows_BHK, label_BK[:, None, :])
        return {head: read_BHK[:, position] for position, head in enumerate(self.heads)}

    @torch.no_grad()
    def write(self, indices: Tensor, probabilities: Mapping[str, Tensor]) -> None:
        """Remember this epoch's predictions; they are read after the next `advance`.

        Args:
            indices: `[B]` int64 in [0, num_samples); of repeated indices, one wins.
            probabilities: every head's `[B, K]` after softmax.
        Raises:
            ValueError: if a head is missing or unknown.
            BatchError: if an index is out of range (looked at on the CPU only, where it costs nothing, and not in a
                compiled step).
        """
        if set(probabilities) != set(self.heads):
            raise ValueError(f"History has the heads {self.heads}, got {tuple(probabilities)}")
        self._check_range(indices)
        rows_BHK = torch.stack([probabilities[head].detach().to(self.dtype) for head in self.heads], dim=1)
        table_NHK, written_N = self._next_generation(rows_BHK.device)
        table_NHK[indices] = rows_BHK
        written_N[indices] = True
        self.unfinished = True

    @torch.no_grad()
    def advance(self) -> None:
        """End the epoch: what was written becomes what is read."""
        self.unfinished = False
        if self._next is None or self._next_written is None:
            return
        if self._previous is not None and self._previous_written is not None:
            kept = (self._previous_written & ~self._next_written).nonzero(as_tuple=True)[0]
            self._next[kept] = self._previous[kept]
            self._next_written[kept] = True
        self._previous, self._next = self._next, self._previous
        self._previous_written, self._next_written = self._next_written, self._previous_written
        if self._next_written is not None:
            self._next_written.zero_()

    @torch.no_grad()
    def discard_unfinished(self) -> None:
        """Forget what the current epoch wrote: it is about to be replayed from its start."""
        self.unfinished = False
        if self._next_written is not None:
            self._next_written.zero_()

    def state_dict(self) -> dict[str, object]:
        """The readable generation and its shape; complete after `advance`, when nothing newer exists."""
        return {
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "heads": list(self.heads),
            "probabilities": self._previous,
            "written": self._previous_written,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore a copy of what `state_dict` gave; tensors keep their device.

        Raises: ValueError: if the state is of another shape or other heads (the message names both).
        """
        mine = {"num_samples": self.num_samples, "num_classes": self.num_classes, "heads": list(self.heads)}
        theirs = {key: state.get(key) for key in mine}
        if mine != theirs:
            raise ValueError(f"the saved history is {theirs}, this run needs {mine}")
        probabilities, written = state.get("probabilities"), state.get("written")
        self._previous = probabilities.to(self.dtype, copy=True) if isinstance(probabilities, Tensor) else None
        self._previous_written = written.clone() if isinstance(written, Tensor) else None
        self._next = self._next_written = None
        self.unfinished = False

    def to(self, device: torch.device | str) -> History:
        """Move the stored tensors, in place; returns self."""
        for name in ("_previous", "_next", "_previous_written", "_next_written"):
            tensor = getattr(self, name)
            setattr(self, name, None if tensor is None else tensor.to(device))
        return self

    def _next_generation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._next is None or self._next_written is None:
            shape = (self.num_samples, len(self.heads), self.num_classes)
            self._next = torch.zeros(shape, dtype=self.dtype, device=device)
            self._next_written = torch.zeros(self.num_samples, dtype=torch.bool, device=device)
        return self._next, self._next_written

    def _check_range(self, indices: Tensor) -> None:
        if indices.device.type == "cpu" and len(indices) and not torch.compiler.is_compiling():
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= self.num_samples:
                raise BatchError(
                    f"sample index {low if low < 0 else high} lies outside [0, {self.num_samples}); "
                    "DatasetInfo.num_samples must be the size of the training set"
                )
