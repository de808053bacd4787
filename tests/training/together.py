"""What processes of the tests do; each starts with a fresh interpreter that imports it from here."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import distributed

from selfkd.errors import OptionError


def rank():
    return int(os.environ["RANK"])


def train(files, runs):
    from selfkd.recipes.reader import resolve
    from selfkd.runs.experiment import run

    for file in files:
        run(resolve(str(file), trust_imports=True), runs, show_progress=False)


def refuse(folder):
    """Process 1 refuses an option, process 0 waits for it."""
    if rank() == 1:
        raise OptionError("trainer.shoes", 3, "two")
    time.sleep(60)


def fail(folder):
    if rank() == 1:
        raise ZeroDivisionError("nobody's fault")
    time.sleep(60)


def die(folder):
    """Process 1 is killed while process 0 waits to talk to it."""
    distributed.init_process_group("gloo")
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_reduce(torch.ones(1))


def wait(folder):
    partial = Path(folder) / f"{rank()}.partial"
    partial.write_text(str(torch.get_num_threads()))
    partial.rename(partial.with_suffix(".txt"))
    time.sleep(60)
