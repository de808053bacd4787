"""The number of CPU threads: as many as the work of a step keeps busy. A run keeps its number to the end."""

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

_VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")  # torch obeys both; the first one wins

_log = logging.getLogger("selfkd")


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads, and the reason for the log."""

    number: int
    reason: str


def worthwhile_threads(multiply_adds: int, cores: int) -> int:
    """One thread for every 2 billion multiply-adds in the forward pass of a batch; at least 1, at most one per core.

    What counts is the work between two points where the threads wait for each other. The backward pass has twice the
    work and twice as many such points, so the same rule fits training and evaluation.

    Args:
        multiply_adds: number of multiply-adds in the forward pass of a batch.
        cores: number of cores that this process may use.
    """
    return max(1, min(cores, multiply_adds // MULTIPLY_ADDS_PER_THREAD))


def count_multiply_adds(network: nn.Module, input_size: tuple[int, int, int]) -> int:
    """The multiply-adds in the forward pass of one image. torch counts those of convolutions and matrix products.

    Args:
        network: a network that takes images.
        input_size: (channels, height, width) of one image.
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
    """Choose the number of CPU threads for a network. Other work on the machine does not change the choice.

    The first of these that is known decides: `asked`, `kept`, an environment variable such as `OMP_NUM_THREADS`, and
    the rule of `worthwhile_threads`.

    Args:
        network: the plain network.
        input_size: (channels, height, width) of one image.
        images: number of images in a batch.
        asked: the user's `trainer.threads`.
        kept: the number that the run used so far. It is kept because another number changes the last digits of the
            results.
        settable: whether the command takes `trainer.threads`; if not, a warning names the variable instead.
    """
    variable = next(filter(says_threads, _VARIABLES), None)
    cores = available_cores()
    if asked is not None:
        before = "" if kept in (None, asked) else f"; before it was {kept}, so the last digits of the results change"
        choice = ThreadChoice(asked, f"as trainer.threads says{before}")
    elif kept is not None:
        choice = ThreadChoice(kept, "as before; trainer.threads sets another number")
    elif variable is not None:
        choice = ThreadChoice(torch.get_num_threads(), f"as {variable} says")
    else:
        work = images * count_multiply_adds(network, input_size)
        # torch's own number counts no second thread of a core, but it ignores a container's quota.
        number = worthwhile_threads(work, min(cores, torch.get_num_threads()))
        billions = np.format_float_positional(work / 1e9, precision=2, fractional=False, trim="-")
        reason = f"for {billions} billion multiply-adds in a batch; trainer.threads sets another number"
        choice = ThreadChoice(number, reason)
    if choice.number > cores:
        advice = "" if asked is not None else f"; set {'trainer.threads' if settable else variable}={cores}"
        if asked is None and kept is not None:
            advice += ", which changes the last digits of the results"
        _log.warning(
            "%d threads%s are more than the %d cores that this process may use, so they are slow%s",
            choice.number,
            "" if asked is None else " (trainer.threads)",
            cores,
            advice,
        )
    return choice


@contextmanager
def threads_restored() -> Iterator[None]:
    """Restore torch's number of threads at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
