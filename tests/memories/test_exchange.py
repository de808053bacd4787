"""Two real processes that write a part each remember what one does that wrote all."""

import torch
import torch.distributed as dist
import torch.multiprocessing
from feature_queue import FeatureQueue, Queued

import selfkd
from selfkd.losses import soft_cross_entropy
from selfkd.memories import History, HistoryOptions, prediction_table
from selfkd.methods.base import Method

SAMPLES, CLASSES, HEADS = 23, 6, ("main", "branch1")
FORMS = ({}, {"dtype": "float16"}, {"top_k": 2})
# What each of two processes writes in each epoch: with rows left out, a process that writes nothing, nobody at all,
# and a row that both write, the first one's of which stays.
EPOCHS = (
    (range(0, 23, 2), range(1, 23, 2)),
    (range(3, 9), range(9, 12)),
    ((), range(2)),
    ((), ()),
    ((4, 5), (5, 6)),
)


class Own(Method):
    """Somebody's own, which remembers in its own way."""

    needs = selfkd.Needs(sample_index=True)

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.history = History(data.num_samples, data.num_classes, ("main",))
        self.memories["history"] = self.history

    def forward(self, batch, progress):
        logits = self.backbone(batch.images).logits
        loss = soft_cross_entropy(logits, self.history.read(batch.indices, batch.labels)["main"])
        return selfkd.StepOutput(loss, {"loss": loss}, {"main": logits})

    def after_step(self, batch, output):
        super().after_step(batch, output)
        self.history.write(batch.indices, {"main": output.logits["main"].detach().sigmoid()})


def predictions(epoch, process, rows):
    generator = torch.Generator().manual_seed(10 * epoch + process)
    return {head: torch.rand(rows, CLASSES, generator=generator).softmax(1) for head in HEADS}


def histories(folder, ranks):
    """States after each epoch, of a process that writes what these ranks do, by form."""
    states = []
    for form in FORMS:
        for storage in ("device", "memmap"):
            history = History(SAMPLES, CLASSES, HEADS)
            # The places may differ from process to process.
            history.configure(HistoryOptions(storage=storage if 0 in ranks else "pinned", **form), folder)
            for epoch, indices in enumerate(EPOCHS):
                for rank in reversed(ranks):
                    if len(indices[rank]):
                        history.write(torch.tensor(indices[rank]), predictions(epoch, rank, len(indices[rank])))
                history.commit()
                state = history.state_dict()
                states.append({key: value.clone() for key, value in state.items() if torch.is_tensor(value)})
    return states


def remembered(kind, ranks):
    """What a method remembers after two epochs, its weights left as they are."""
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=4, input_size=16)
    method = kind(backbone, selfkd.DatasetInfo(8, CLASSES)).eval()
    images = torch.randn(8, 3, 16, 16)
    for epoch in range(2):
        progress = selfkd.Progress(epoch, 2)
        method.begin_epoch(progress)
        for rank in ranks:
            indices = torch.arange(8)[rank::2]
            batch = selfkd.Batch(images[indices] * (epoch + 1), indices % CLASSES, indices)
            method.after_step(batch, method(batch, progress))
        method.end_epoch(progress)
    return method.memories_state()


def queue(ranks):
    """The vectors that a queue of five keeps after two epochs, in each of which a process writes two."""
    queue = FeatureQueue(5, 2)
    for epoch in range(2):
        for rank in ranks:
            queue.write(torch.full((2, 2), 10.0 * epoch + rank))
        queue.commit()
    return queue.kept_QD


def methods(ranks):
    """What methods remember: in a history alone, and in one and a queue besides."""
    return remembered(Own, ranks), remembered(Queued, ranks)


def process(rank, folder):
    torch.set_num_threads(1)
    prediction_table._CHUNK_BYTES = 100  # a few rows
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save((histories(folder, (rank,)), queue((rank,)), *methods((rank,))), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_all_processes_know_what_each_wrote(tmp_path):
    torch.multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    expected, (own, queued) = histories(tmp_path, (0, 1)), methods((0, 1))
    assert queue((0, 1))[:, 0].tolist() == [1, 10, 10, 11, 11]
    assert queued["queue"]["kept"].shape == (16, 32)
    for rank in range(2):
        states, queue_there, own_there, queued_there = torch.load(tmp_path / f"{rank}.pt")
        for mine, theirs in zip(states, expected, strict=True):
            assert set(mine) == set(theirs)
            assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        assert torch.equal(queue_there, queue((0, 1)))
        torch.testing.assert_close(own_there["history"]["probabilities"], own["history"]["probabilities"])
        torch.testing.assert_close(queued_there["queue"]["kept"], queued["queue"]["kept"])
        torch.testing.assert_close(queued_there["history"]["probabilities"], queued["history"]["probabilities"])
