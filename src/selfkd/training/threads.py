"""How many threads compute where a CPU trains: as many as the work of a step keeps busy, and the same to the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from selfkd.cores import available_cores
from selfkd.eval_mode import eval_mode

__all__ = [
    "MULTIPLY_ADDS_PER_THREAD",
    "ThreadChoice",
    "choose_threads",
    "count_multiply_adds",
    "threads_restored",
    "worthwhile_threads",
]

MULTIPLY_ADDS_PER_THREAD = 2_000_000_000
"""Multiply-adds of a batch's forward pass that keep a thread busy; measured by benchmarks/thread_choice.py."""

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # which torch obeys

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads, and the reason for it in words."""

    number: int
    reason: str


def worthwhile_threads(multiply_adds: int, cores: int) -> int:
    """One thread for every 2 billion multiply-adds in the forward pass of a batch; at least 1, at most one per core.

    The work between two points where the threads wait for each other is what counts. The backward pass has twice the
    work and twice as many such points, so that training and evaluation have one rule.

    Args:
        multiply_adds: of the forward pass of a batch.
        cores: that may be used.
    """
    return max(1, min(cores, multiply_adds // MULTIPLY_ADDS_PER_THREAD))


def count_multiply_adds(network: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Of one image's forward pass, as torch counts them: those of convolutions and matrix products.

    Args:
        network: takes images.
        input_size: (channels, height, width) of one.
    """
    parameter = next(network.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_size, device=parameter.device, dtype=parameter.dtype)
    with eval_mode(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    operations: int = counter.get_total_flops()
    return operations // 2


def choose_threads(
    network: nn.Module,
    input_size: tuple[int, int, int],
    images: int,
    asked: int | None = None,
    kept: int | None = None,
    settable: bool = True,
) -> ThreadChoice:
    """The number of threads that compute with a network on a CPU; what else the machine does has no influence.

    Args:
        network: the plain network.
        input_size: (channels, height, width) of one image.
        images: in a batch.
        asked: the user's `trainer.threads`, which goes before all else.
        kept: the number with which the run was trained so far. It goes before the variables of torch
            (`OMP_NUM_THREADS`), and these before the rule, since another number rounds otherwise.
        settable: whether who computes takes `trainer.threads`; else a warning names the variable instead.
    """
    variable = next((name for name in _VARIABLES if os.environ.get(name)), None)
    cores = available_cores()
    if asked is not None:
        before = "" if kept in (None, asked) else f"; {kept} before, so that sums are rounded otherwise from now on"
        choice = ThreadChoice(asked, f"as trainer.threads says{before}")
    elif kept is not None:
        choice = ThreadChoice(kept, "as before; trainer.threads sets another number")
    elif variable is not None:
        choice = ThreadChoice(torch.get_num_threads(), f"as {variable} says")
    else:
        work = images * count_multiply_adds(network, input_size)
        # torch's own number leaves out the second thread of a core, but knows nothing of a container's quota.
        number = worthwhile_threads(work, min(cores, torch.get_num_threads()))
        reason = f"for {work / 1e9:.1f} billion multiply-adds in a batch; trainer.threads sets another number"
        choice = ThreadChoice(number, reason)
    if choice.number > cores:
        _log.warning(
            "%d threads are more than the %d cores that this process may use, which is slow; %s=%d takes fewer, and "
            "rounds otherwise",
            choice.number,
            cores,
            "trainer.threads" if settable else variable,
            cores,
        )
    return choice


@contextmanager
def threads_restored() -> Iterator[None]:
    """Put torch's number of threads back at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
