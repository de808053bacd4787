"""How many threads compute where a CPU trains: as many as the work of a step keeps busy, and the same to the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from selfkd.cores import available_cores
from selfkd.eval_mode import eval_mode
from selfkd.process_environment import says_threads

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

_VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")  # which torch obeys, the first of them before the second

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
            (`OMP_NUM_THREADS`), and these before the rule, since another number changes the last digits of results.
        settable: whether who computes takes `trainer.threads`; else a warning names the variable instead.
    """
    variable = next(filter(says_threads, _VARIABLES), None)
    cores = available_cores()
    if asked is not None:
        before = "" if kept in (None, asked) else f"; {kept} before, so that the last digits of results change"
        choice = ThreadChoice(asked, f"as trainer.threads says{before}")
    elif kept is not None:
        choice = ThreadChoice(kept, "as before; trainer.threads sets another number")
    elif variable is not None:
        choice = ThreadChoice(torch.get_num_threads(), f"as {variable} says")
    else:
        work = images * count_multiply_adds(network, input_size)
        # torch's own number leaves out the second thread of a core, but knows nothing of a container's quota.
        number = worthwhile_threads(work, min(cores, torch.get_num_threads()))
        billions = np.format_float_positional(work / 1e9, precision=2, fractional=False, trim="-")
        reason = f"for {billions} billion multiply-adds in a batch; trainer.threads sets another number"
        choice = ThreadChoice(number, reason)
    if choice.number > cores:
        advice = "" if asked is not None else f"; {'trainer.threads' if settable else variable}={cores} takes fewer"
        if asked is None and kept is not None:
            advice += ", which changes the last digits of results"
        _log.warning(
            "%d threads%s are more than the %d cores that this process may use, which is slow%s",
            choice.number,
            "" if asked is None else ", as trainer.threads says,",
            cores,
            advice,
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
