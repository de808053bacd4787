"""What training knows of memories, shown by one that is no history."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from feature_queue import FeatureQueue, Queued

import own_loop
import selfkd
from selfkd.errors import CheckpointError, UserError
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import CheckpointFiles, newest_set, set_folder
from selfkd.training.epoch_log import read_epoch_log

SAMPLES, CLASSES, EPOCHS = 12, 5, 4


def built(seed=0):
    torch.manual_seed(seed)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=4, input_size=16)
    return Queued(backbone, selfkd.DatasetInfo(SAMPLES, CLASSES))


def batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    for indices in torch.randperm(SAMPLES, generator=generator).split(4):
        yield selfkd.Batch(torch.randn(4, 3, 16, 16, generator=generator), indices % CLASSES, indices)


def trained(method, until=EPOCHS):
    return own_loop.train(method, torch.optim.SGD(method.parameters(), 0.05), batches, EPOCHS, until)


def test_a_loop_continues_with_every_memory():
    unbroken = built()
    losses = trained(unbroken)
    first = built()
    trained(first, until=2)
    state = copy.deepcopy(first.training_state())
    assert set(state["memories"]) == {"queue", "history"}
    second = built(seed=1)
    second.load_training_state(state)
    assert trained(second) == losses[6:]
    assert torch.equal(second.queue.kept_QD, unbroken.queue.kept_QD)


def test_an_epoch_that_was_broken_off_is_forgotten():
    method, progress = built(), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    batch = next(batches(0))
    method.after_step(batch, method(batch, progress))
    assert method.queue.samples_written == 4
    other = built()
    assert trained(method) == trained(other)
    assert torch.equal(method.queue.kept_QD, other.queue.kept_QD)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (
            lambda memories: {"history": memories["history"]},
            "history is remembered there, Queued remembers history, queue",
        ),
        (lambda memories: {**memories, "bank": {}}, "bank, history, queue is remembered there"),
        (
            lambda memories: {**memories, "queue": {"kept": torch.zeros(40, CLASSES)}},
            r"queue is \[40, 5\], expected",
        ),
        (lambda memories: {**memories, "queue": {}}, "the saved queue is None"),
        (lambda memories: {**memories, "history": {**memories["history"], "heads": ["other"]}}, "the saved history is"),
    ],
)
def test_a_state_is_taken_whole_or_not_at_all(damaged, message):
    trained_one, method = built(), built(seed=1)
    trained(trained_one, until=2)
    state = trained_one.training_state()
    with pytest.raises(CheckpointError, match=f"does not fit this Queued: .*{message}"):
        method.load_training_state({**state, "memories": damaged(state["memories"])})
    assert all(memory.is_empty for memory in method.memories.values())


def test_an_epoch_begins_with_every_memory_on_the_device_of_the_network():
    """What a state held in main memory too. "meta" is a second device that every machine has."""
    trained_one, method = built(), built(seed=1)
    trained(trained_one, until=1)
    method.load_training_state(trained_one.training_state())
    method.to("meta").begin_epoch(selfkd.Progress(1, EPOCHS))
    assert method.queue.kept_QD.shape == trained_one.queue.kept_QD.shape
    assert method.queue.kept_QD.device.type == "meta"
    assert "on meta" in method.memories["history"].described()


def test_weights_alone_do_not_continue_it():
    trained_one, method = built(), built(seed=1)
    trained(trained_one, until=2)
    method.load_state_dict(trained_one.state_dict())
    with pytest.raises(UserError, match="nothing is remembered of the epochs before"):
        method.begin_epoch(selfkd.Progress(2, EPOCHS))


@pytest.mark.parametrize("name", ["", "a/b", "..", "best.ckpt", "1st"])
def test_a_memory_whose_name_is_no_files_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="its name must be letters, digits and underscores"):
        CheckpointFiles().save_checkpoint({"selfkd_memories": {name: {}}}, set_folder(tmp_path, 1))


def command(runs):
    arguments = [
        "train",
        "demo/digits/resnet18/plain",
        "method=feature_queue:Queued",
        "name=queued",
        "trainer.epochs=5",
    ]
    arguments += ["backbone.width=8", "--runs", str(runs), "--no-progress", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "selfkd", *arguments],
        cwd=Path(__file__).parent,  # where the method is
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(runs):
    process = command(runs)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return RunFolder(runs / "queued" / "seed-0")


def killed_after(epoch, runs):
    """A run, killed once it has logged an epoch."""
    folder, process = RunFolder(runs / "queued" / "seed-0"), command(runs)
    deadline = time.monotonic() + 120
    while not any(row["epoch"] >= epoch for row in read_epoch_log(folder.metrics_file)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    return folder


@pytest.mark.slow
def test_a_killed_run_continues_with_every_memory_which_has_a_file_of_its_own(tmp_path):
    unbroken = finished(tmp_path / "unbroken")
    broken = killed_after(3, tmp_path / "broken")
    newest = newest_set(broken.checkpoints)
    assert {"history.pt", "memory-queue.pt"} <= set(json.loads((newest / "checksums.json").read_text()))
    broken.check_overwritable()  # it knows them as its own
    (newest / "memory-queue.pt").write_bytes(b"damaged")  # so that it goes back to the set before
    finished(tmp_path / "broken")
    assert broken.network_file.read_bytes() == unbroken.network_file.read_bytes()
    queues = [torch.load(newest_set(folder.checkpoints) / "memory-queue.pt")["kept"] for folder in (broken, unbroken)]
    assert torch.equal(*queues)


def process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    queue, method = FeatureQueue(5, 2), built()
    for epoch in range(2):
        queue.write(torch.full((2, 2), 10.0 * epoch + rank))
        queue.commit()
    for epoch in range(2):
        progress = selfkd.Progress(epoch, EPOCHS)
        method.begin_epoch(progress)
        for batch in [*batches(epoch)][rank::2]:
            method.after_step(batch, method(batch, progress))
        method.end_epoch(progress)
    torch.save((queue.state_dict(), method.memories_state()), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_remember_the_same(tmp_path):
    torch.multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    (queue, memories), (queue_there, memories_there) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert queue["kept"][:, 0].tolist() == [1, 10, 10, 11, 11]
    assert torch.equal(queue["kept"], queue_there["kept"])
    assert len(memories["queue"]["kept"]) == 2 * SAMPLES
    assert torch.equal(memories["queue"]["kept"], memories_there["queue"]["kept"])
