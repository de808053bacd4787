"""Nothing in a training step waits for the device."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import seats
from selfkd.methods import METHODS
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run
from selfkd.training.module import MethodModule

# What a GPU would have to be waited for: a number read by Python, or a shape that depends on numbers.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}


class Waits(TorchDispatchMode):
    """Counts them."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.counted[name] += 1
        return function(*arguments, **(options or {}))


def waits(method, batch_size, folder):
    """Of a run of two epochs of 60 images."""
    options = {
        "method": method,
        "backbone.width": 4,
        "data.train_per_class": 6,
        "loader.batch_size": batch_size,
        "trainer.epochs": 2,
        "trainer.precision": "bf16-mixed",
        "regularization.cutout": 4,
        "name": f"{method}-{batch_size}",
    } | seats.overrides(method, folder)
    with Waits() as counter:
        run(resolve("demo/digits/resnet18/plain", options), folder, show_progress=False)
    return counter.counted


@pytest.mark.parametrize("method", seats.EVERY_METHOD)
def test_more_steps_wait_no_more_often(method, tmp_path, monkeypatch):
    for owner in ("selfkd.memories.history", "selfkd.methods.batch_checks"):
        monkeypatch.setattr(f"{owner}.readable_now", lambda values: False)  # as of a device's labels and indices
    few, many = (waits(method, batch_size, tmp_path) for batch_size in (30, 10))
    assert few == many
    assert few["_local_scalar_dense"] > 0, "at the end of an epoch a run does look"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_is_not_waited_for(method, tmp_path, monkeypatch):
    """In a step, backward, and what is remembered after the optimiser's step; the first batch of an epoch may wait."""
    more = seats.overrides(method, tmp_path)
    guarded = Counter()

    def guard(owner, name, batch_idx_of):
        unguarded = getattr(owner, name)

        def without_waiting(*arguments, **options):
            if batch_idx_of(*arguments) == 0:
                return unguarded(*arguments, **options)
            guarded[name] += 1
            torch.cuda.set_sync_debug_mode("error")
            try:
                return unguarded(*arguments, **options)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        monkeypatch.setattr(owner, name, without_waiting)

    def current(module, *_):
        return module.trainer.fit_loop.epoch_loop.batch_idx

    guard(MethodModule, "training_step", lambda module, batch, batch_idx: batch_idx)
    guard(MethodModule, "backward", current)
    # The sums of the meter and after_step; a look for NaN, which waits, is rarer than a small epoch is long.
    guard(MethodModule, "on_train_batch_end", lambda module, outputs, batch, batch_idx: batch_idx)
    options = {"method": method, "backbone.width": 16, "trainer.epochs": 2, "name": method}
    options |= {"trainer.guard_every": 10_000, **more}
    run(resolve("demo/digits/resnet18/plain", options), tmp_path, show_progress=False)
    assert len(guarded) == 3
    assert len(set(guarded.values())) == 1, "each in every step"
