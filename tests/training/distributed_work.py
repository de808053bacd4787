"""What two processes compute in tests; each is a fresh interpreter that imports it from here."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import distributed

from selfkd.training.processes import launch_variables


def in_two_processes(work, *arguments):
    """Call a function of this module in two processes that have the variables of torchrun."""
    torch.multiprocessing.spawn(_call, (launch_variables(2), work, arguments), nprocs=2)


def _call(rank, variables, work, arguments):
    os.environ.update(variables[rank])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    work(*arguments)


def rank():
    return int(os.environ["RANK"])


def train(files, runs):
    from selfkd.recipes.reader import resolve
    from selfkd.runs.train import run

    for file in files:
        run(resolve(str(file), trust_imports=True), runs, show_progress=False)


def count_collectives(files, runs):
    """How often a run of each recipe calls what the processes do together, DDP's own exchange of gradients aside."""
    counts = []
    for name in ("all_reduce", "reduce", "broadcast", "gather", "all_gather", "scatter", "barrier"):
        setattr(distributed, name, _counted(getattr(distributed, name), counts))
    for name in ("broadcast_object_list", "all_gather_object", "all_gather_into_tensor", "monitored_barrier"):
        setattr(distributed, name, _counted(getattr(distributed, name), counts))
    for file in files:
        counts.append(0)
        train([file], runs)
    if rank() == 0:
        (Path(runs) / "counts.json").write_text(json.dumps(counts))


def _counted(function, counts):
    def call(*arguments, **options):
        counts[-1] += 1
        return function(*arguments, **options)

    return call


def evaluate_three_images():
    """Two processes, of which the second has no share of the second batch, or has logits that are no numbers."""
    import selfkd
    from selfkd.data.loading.resident import EvaluationLoader
    from selfkd.data.splits import ImageSet
    from selfkd.errors import NonFiniteLossError
    from selfkd.evaluation.metrics import evaluate

    torch.manual_seed(0)
    method = selfkd.create_method(
        "plain", selfkd.create_backbone("resnet18_cifar", 3, width=8), selfkd.DatasetInfo(3, 3)
    )
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    alone = EvaluationLoader(ImageSet(images, torch.arange(3)), (0.5,) * 3, (0.25,) * 3, batch_size=2)
    expected = evaluate(method, alone, "cpu")
    distributed.init_process_group("gloo")
    scores = evaluate(method, alone, "cpu")
    if rank() == 1:
        torch.nn.init.constant_(method.deployed().fc.bias, float("nan"))
    with pytest.raises(NonFiniteLossError, match="logits of main are NaN or infinite"):
        evaluate(method, alone, "cpu")
    distributed.destroy_process_group()
    assert scores == expected, (scores, expected)
    assert scores["main"]["top1"]["n"] == 3


def collect_in_order():
    """Two processes collect nine images in batches of four: two and two of the first batches, one of the last."""
    import selfkd
    from selfkd.data.loading.resident import EvaluationLoader
    from selfkd.data.splits import ImageSet
    from selfkd.errors import NonFiniteLossError
    from selfkd.evaluation.metrics import HeadMetrics, evaluate
    from selfkd.evaluation.predictions import collect

    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", 7, width=8, input_size=16)
    method = selfkd.create_method("teskd", backbone, selfkd.DatasetInfo(9, 7))
    images, labels = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8), torch.arange(9) % 7
    loader = EvaluationLoader(ImageSet(images, labels), (0.5,) * 3, (0.25,) * 3, batch_size=4)
    alone = collect(method, loader, "cpu", pooled=True)
    distributed.init_process_group("gloo")
    together = collect(method, loader, "cpu", pooled=True)
    assert torch.equal(together.labels, labels)
    assert torch.equal(together.indices, torch.arange(9))
    assert list(together.logits) == ["main", "branch1", "branch2", "branch3"]
    for head, logits_BK in alone.logits.items():
        assert torch.allclose(together.logits[head], logits_BK, atol=1e-5), head
    assert torch.allclose(together.pooled, alone.pooled, atol=1e-5)
    metrics = HeadMetrics(7, "cpu", sharded=False)
    metrics.update(together.logits, together.labels)
    assert metrics.compute() == evaluate(method, loader, "cpu")
    if rank() == 1:
        torch.nn.init.constant_(method.deployed().fc.bias, float("nan"))
    with pytest.raises(NonFiniteLossError, match="logits of main are NaN or infinite"):
        collect(method, loader, "cpu")
    distributed.destroy_process_group()


def count_steps():
    """A guard after the epoch's counts were added up names steps of this process."""
    from selfkd.contract import StepOutput
    from selfkd.errors import NonFiniteLossError
    from selfkd.training.step_meter import StepMeter

    distributed.init_process_group("gloo")
    meter = StepMeter()
    for last in (5.0, float("nan")):
        meter.reset()
        for loss in (1.0, 3.0, last):
            meter.update(StepOutput(torch.tensor(loss), {}, {"main": torch.eye(2)}), torch.tensor([0, 0]), 4)
        meter.gather()
        if last == 5:
            meter.guard(epoch=0)
            assert meter.compute() == {
                "train/loss": 3.0,
                "train/accuracy": 50.0,
                "images/train": 3 * 4 * distributed.get_world_size(),
            }
    with pytest.raises(NonFiniteLossError, match="steps 1 to 3;"):
        meter.guard(epoch=0)
    distributed.destroy_process_group()
