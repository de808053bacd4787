"""What training knows of memories, shown by one that is no history."""

import copy
import json
import signal
from pathlib import Path

import pytest
import torch
from feature_queue import FeatureQueue, Queued

import own_loop
import selfkd
from real_runs import differences, finish, outcome, start, wait_for_epoch
from selfkd.errors import CheckpointError, UserError
from selfkd.runs.overwrite import check_overwritable
from selfkd.runs.run_folder import RunFolder
from selfkd.supervision.historical import Historical
from selfkd.training.checkpoint_files import CheckpointFiles, newest_checkpoint
from selfkd.training.checkpoint_names import checkpoint_folder

SAMPLES, CLASSES, EPOCHS = 12, 5, 4


def built(seed=0, kind=Queued):
    torch.manual_seed(seed)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=4, input_size=16)
    return kind(backbone, selfkd.DatasetInfo(SAMPLES, CLASSES))


def batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    for indices in torch.randperm(SAMPLES, generator=generator).split(4):
        yield selfkd.Batch(torch.randn(4, 3, 16, 16, generator=generator), indices % CLASSES, indices)


def trained(method, until=EPOCHS):
    return own_loop.train(method, torch.optim.SGD(method.parameters(), 0.05), batches, EPOCHS, until)


def check_equal_memories(method, other):
    mine, theirs = method.memories_state(), other.memories_state()
    assert torch.equal(mine["queue"]["kept"], theirs["queue"]["kept"])
    assert mine["history"]["written"].all()
    assert torch.equal(mine["history"]["probabilities"], theirs["history"]["probabilities"])


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
    check_equal_memories(second, unbroken)


def test_an_epoch_that_was_broken_off_is_forgotten():
    method, progress = built(), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    batch = next(batches(0))
    method.after_step(batch, method(batch, progress))
    assert {name: memory.samples_written for name, memory in method.memories.items()} == {"queue": 4, "history": 4}
    other = built()
    assert trained(method) == trained(other)
    check_equal_memories(method, other)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (
            lambda memories: {"history": memories["history"]},
            "the memories of the state are: history; those of Queued are: history, queue",
        ),
        (lambda memories: {**memories, "bank": {}}, "the memories of the state are: bank, history, queue;"),
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
    with pytest.raises(UserError, match="the memory of .* is empty"):
        method.begin_epoch(selfkd.Progress(2, EPOCHS))


@pytest.mark.parametrize("name", ["", "a/b", "..", "best.ckpt", "1st", "é", "x" * 101, 3])
def test_a_memory_whose_name_is_no_files_is_refused_before_the_first_step(name, tmp_path):
    method, progress = built().eval(), selfkd.Progress(0, EPOCHS)
    method.memories[name] = FeatureQueue(3, CLASSES)
    for step in (lambda: method.begin_epoch(progress), lambda: method(next(batches(0)), progress)):
        with pytest.raises(UserError, match="its name must begin with a letter and have letters, digits and"):
            step()
    with pytest.raises(UserError, match="its name must be"):
        CheckpointFiles().save_checkpoint({"selfkd_memories": {name: {}}}, checkpoint_folder(tmp_path, 1))


class Unlisted(Queued):
    """As methods were written when there was one history and an attribute for it."""

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.history = selfkd.History(data.num_samples, data.num_classes, ["main"])


class Within(Queued):
    """With a memory in a part of it."""

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.branch = torch.nn.Linear(1, 1)
        self.branch.bank = FeatureQueue(3, 1)


class Replacing(Queued):
    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.memories["history"] = FeatureQueue(3, 1)


class Dropping(Queued):
    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.memories = {"queue": self.queue}


class NoMemory(Queued):
    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.memories["bank"] = []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            Unlisted,
            r"Unlisted.history is a memory, but not in self.memories, .* as self.memories\[name\]",
        ),
        (Within, r"Linear.bank is a memory, but not in self.memories, .* in the __init__ of Within"),
        (Replacing, r"Replacing.memories\['history'\] is no longer the memory of its supervision, Historical"),
        (Dropping, r"Dropping.memories\['history'\] is no longer the memory of its supervision, Historical"),
        (NoMemory, r"NoMemory.memories\['bank'\] is \[\]; it must be a selfkd.Memory"),
    ],
)
def test_a_memory_that_would_be_overlooked_is_refused_before_the_first_step(kind, message):
    method, progress = built(kind=kind).eval(), selfkd.Progress(0, EPOCHS)
    for step in (lambda: method.begin_epoch(progress), lambda: method(next(batches(0)), progress)):
        with pytest.raises(UserError, match=message):
            step()


def test_a_supervision_does_not_replace_a_memory_that_is_there():
    method = built()
    method.memories["bank"] = method.memories["history"]
    with pytest.raises(UserError, match=r"Queued.memories\['history'\] exists already, and its supervision"):
        method.supervise(Historical(), selfkd.DatasetInfo(SAMPLES, CLASSES), ("main",))


def test_a_supervision_needs_only_what_a_loader_gives():
    class Teaching(Historical):
        needs = selfkd.Needs(teacher=True)

    method = built()
    with pytest.raises(UserError, match=r"Teaching declares Needs\(.*teacher=True.* may need sample_index, views"):
        method.supervise(Teaching(), selfkd.DatasetInfo(SAMPLES, CLASSES), ("main",))


class ForgetsTheHistory(Queued):
    def after_step(self, batch, output):
        self.queue.write(output.remembered["pooled"])


def test_a_second_memory_does_not_hide_that_the_supervisions_is_never_written():
    method, progress = built(kind=ForgetsTheHistory), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    for batch in batches(0):
        method.after_step(batch, method(batch, progress))
    with pytest.raises(UserError, match=r"saw 12 samples, but .* for 0 of them.* calls super\(\).after_step"):
        method.end_epoch(progress)


def test_a_second_memory_does_not_hide_that_the_supervisions_is_empty():
    method = built()
    method.queue.write(torch.ones(1, method.backbone.num_features))
    method.queue.commit()
    with pytest.raises(UserError, match="the memory of .* is empty"):
        method.begin_epoch(selfkd.Progress(2, EPOCHS))


def train(runs):
    overrides = ("method=feature_queue:Queued", "name=queued", "trainer.epochs=5", "backbone.width=8")
    return start("demo/digits/resnet18/plain", runs, *overrides, folder=Path(__file__).parent)  # where the method is


@pytest.mark.slow
def test_a_killed_run_continues_with_every_memory_which_has_a_file_of_its_own(tmp_path):
    unbroken, broken = (RunFolder(tmp_path / runs / "queued" / "seed-0") for runs in ("unbroken", "broken"))
    assert finish(train(tmp_path / "unbroken"))[0] == 0
    process = train(tmp_path / "broken")
    wait_for_epoch(broken, 3, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    newest = newest_checkpoint(broken.checkpoints)
    assert {"history.pt", "memory-queue.pt"} <= set(json.loads((newest / "checksums.json").read_text()))
    check_overwritable(broken)  # it knows them as its own
    (newest / "memory-queue.pt").write_bytes(b"damaged")  # so that it goes back to the checkpoint before
    assert finish(train(tmp_path / "broken"))[0] == 0
    assert differences(outcome(unbroken), outcome(broken)) == []
    for name, key in (("memory-queue.pt", "kept"), ("history.pt", "probabilities")):
        assert torch.equal(*(torch.load(newest_checkpoint(run.checkpoints) / name)[key] for run in (broken, unbroken)))
