"""Compiled methods: one graph, few compilations, the same training."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounterWithBackend

import seats
import selfkd
from selfkd.errors import BatchError, OptionError
from selfkd.memories import History, HistoryOptions
from selfkd.methods.base import Method
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.freezing import FrozenPart
from selfkd.training.module import MethodModule
from selfkd.training.options import TrainerOptions

SAMPLES, BATCH = 24, 8


@pytest.fixture(autouse=True)
def forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(method, epochs=4, step=None):
    """Losses of some epochs of steps, by the method or what is compiled of it, after each of which it remembers."""
    compute = method if step is None else step
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.01)
    losses = []
    for epoch in range(epochs):
        method.begin_epoch(selfkd.Progress(epoch, epochs))
        for number, indices in enumerate(torch.randperm(SAMPLES, generator=generator).split(BATCH)):
            images = torch.randn(BATCH, 3, 32, 32, generator=generator).double()
            batch = selfkd.Batch(images, indices % 10, indices)
            output = compute(batch, selfkd.Progress(epoch, epochs, number, SAMPLES // BATCH))
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(batch, output)
            losses.append(output.loss.item())
        method.end_epoch(selfkd.Progress(epoch, epochs))
    return losses


def small(name):
    torch.manual_seed(0)
    backbone = selfkd.create_backbone("resnet18_cifar", 10, width=4)
    return seats.create_method(name, backbone, selfkd.DatasetInfo(SAMPLES, 10)).double()


@pytest.mark.parametrize("name", seats.EVERY_METHOD)
def test_every_method_is_one_graph_compiled_once(name):
    """No epoch and no step has a graph of its own."""
    method = small(name)
    keys = set(method.state_dict())
    eager = trained(copy.deepcopy(method))
    counter = CompileCounterWithBackend("aot_eager")
    method.compile(backend=counter, fullgraph=True)
    assert trained(method) == pytest.approx(eager, rel=1e-9)
    assert counter.frame_count == 1
    assert set(method.state_dict()) == keys


def test_around_a_method_torch_compile_leaves_checks_and_bookkeeping_out_of_its_graphs():
    method = small("ps_kd")
    eager = trained(copy.deepcopy(method))
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(method, backend=counter)
    assert trained(method, step=compiled) == pytest.approx(eager, rel=1e-9)
    if not torch.__version__.startswith("2.8."):  # which compiles what follows a break in a graph for every batch
        assert counter.frame_count <= 4, "no batch and no epoch has a graph of its own"
    method.begin_epoch(selfkd.Progress(4, 5))
    wrong = selfkd.Batch(torch.randn(2, 3, 32, 32).double(), torch.tensor([3, -100]), torch.arange(2))
    with pytest.raises(BatchError, match="label -100 of sample 1"):
        compiled(wrong, selfkd.Progress(4, 5))


class FromAfar(History):
    """Treats the CPU as an accelerator, to which rows in main memory must be brought before the graph."""

    def _is_apart(self, device):
        assert not torch.compiler.is_compiling()
        return self._next is not None

    def _rows(self, indices):
        rows = super()._rows(indices)
        assert rows is self._batch.rows
        return rows


@pytest.mark.parametrize(("kind", "options"), [(History, {"top_k": 3}), (FromAfar, {}), (FromAfar, {"top_k": 3})])
def test_a_history_of_any_form_and_place_is_one_graph(kind, options):
    methods = [small("ps_kd") for _ in range(2)]
    for method in methods:
        history = kind(SAMPLES, 10, ("main",), HistoryOptions(**options))
        method.supervision._history = method.memories["history"] = history
    eager = trained(methods[0])
    counter = CompileCounterWithBackend("aot_eager")
    methods[1].compile(backend=counter, fullgraph=True)
    assert trained(methods[1]) == pytest.approx(eager, rel=1e-9)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["teskd", "dtskd"])
def test_losses_stay_float32_in_a_compiled_step_under_autocast(name):
    method = small(name).float()
    batch = selfkd.Batch(torch.randn(BATCH, 3, 32, 32), torch.arange(BATCH) % 10, torch.arange(BATCH))
    method.begin_epoch(selfkd.Progress(0, 2))
    eager = copy.deepcopy(method)
    method.compile(backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        expected, output = (each(batch, selfkd.Progress(0, 2)) for each in (eager, method))
    assert {value.dtype for value in (output.loss, *output.terms.values())} == {torch.float32}
    assert {logits.dtype for logits in output.logits.values()} == {torch.bfloat16}
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-2)


class Graphs:
    """A backend that compiles nothing, counts graphs and the numbers in them that torch keeps as symbols."""

    def __init__(self):
        self.count = self.symbols = 0
        self.after_epochs = []

    def __call__(self, graph, inputs):
        self.count += 1
        sizes = [size for value in inputs if isinstance(value, torch.Tensor) for size in value.shape]
        self.symbols += sum(isinstance(value, torch.SymInt | torch.SymFloat) for value in [*inputs, *sizes])
        return graph.forward


LABELS_AT_HAND = [pytest.param(*each.values, True, marks=each.marks) for each in seats.EVERY_METHOD]


@pytest.mark.parametrize(("name", "labels_at_hand"), [*LABELS_AT_HAND, ("plain", False), ("ps_kd", False)])
def test_short_last_batches_and_epochs_make_no_graph_of_symbols(name, labels_at_hand, tmp_path, monkeypatch):
    """A graph for full batches and one for the last."""
    if not labels_at_hand:  # those of a device
        monkeypatch.setattr("selfkd.methods.batch_checks.readable_now", lambda values: False)
    more = seats.overrides(name, tmp_path)
    graphs, end_epoch = Graphs(), MethodModule.on_train_epoch_end

    def count(module):
        graphs.after_epochs.append(graphs.count)
        end_epoch(module)

    def compiled(method, **options):
        torch.nn.Module.compile(method, **{**options, "mode": None, "backend": graphs})

    monkeypatch.setattr(Method, "compile", compiled)
    monkeypatch.setattr(MethodModule, "on_train_epoch_end", count)
    options = {"method": name, "backbone.width": 4, "data.train_per_class": 5, "loader.batch_size": 20}
    options |= {"trainer.compile": True, "trainer.epochs": 4, "name": "short last batch"}
    folder = run(resolve("demo/digits/resnet18/plain", options | more), tmp_path, show_progress=False)
    assert folder.scores_file.exists()
    assert graphs.symbols == 0
    assert graphs.after_epochs == [2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["teskd", "dtskd", "loth"])
def test_inductor_computes_the_same(name):
    method = small(name)
    eager = trained(copy.deepcopy(method))
    method.compile(fullgraph=True)
    assert trained(method) == pytest.approx(eager, rel=1e-6)


@pytest.mark.slow
def test_inductor_reads_top_classes():
    method = small("ps_kd")
    method.memories["history"].configure(HistoryOptions(top_k=3))
    eager = trained(copy.deepcopy(method))
    method.compile(fullgraph=True)
    assert trained(method) == pytest.approx(eager, rel=1e-6)


@pytest.mark.slow
def test_a_compiled_run_is_a_run_like_any_other(tmp_path):
    losses = []
    for compiled in (False, True):
        options = {"name": f"compiled-{compiled}", "trainer.compile": compiled, "trainer.epochs": 2}
        folder = run(resolve("demo/digits/resnet18/dtskd", options), tmp_path, show_progress=False)
        losses.append([row["train/loss"] for row in read_epoch_log(folder.metrics_file)])
        assert set(folder.scores()["last"]["scores"]["test"]) == {"main", "branch1", "branch2", "branch3"}
        assert not any("_orig_mod" in key for key in load_file(folder.network_file))
    assert losses[1] == pytest.approx(losses[0], rel=0.2), "rounding grows where the rate of learning is high"


@pytest.mark.slow
def test_without_a_compiler_it_is_refused(selfkd, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/cxx")
    options = ("trainer.compile=true", "trainer.epochs=1", "--runs", tmp_path)
    done = selfkd("train", "demo/digits/resnet18/plain", *options)
    assert done.returncode == 2
    assert "set trainer.compile=false. Its error: InvalidCxxCompiler: No working C++ compiler" in done.stderr
    assert "Traceback" not in done.stderr


def test_modes_are_those_of_torch():
    assert TrainerOptions().compile_mode is None
    assert TrainerOptions(compile=True).compile_mode == "default"
    assert TrainerOptions(compile="reduce-overhead").compile_mode == "reduce-overhead"
    with pytest.raises(OptionError, match="trainer.compile='fast' .*reduce-overhead"):
        TrainerOptions(compile="fast")


def test_a_part_that_is_frozen_and_then_trains_is_compiled_anew_and_computes_the_same():
    def trained_with_frozen_part(compiled):
        method = small("dtskd")
        part = FrozenPart(method.networks, TrainerOptions(epochs=3, freeze=2, freeze_epochs=1))
        begin = method.begin_epoch

        def begin_epoch(progress):
            part.begin_epoch(progress.epoch)
            begin(progress)

        method.begin_epoch = begin_epoch
        counter = CompileCounterWithBackend("aot_eager")
        if compiled:
            method.compile(backend=counter, fullgraph=True, dynamic=False)
        losses = trained(method, 3)
        return losses, method.state_dict(), counter.frame_count

    losses, weights, _ = trained_with_frozen_part(compiled=False)
    compiled_losses, compiled_weights, graphs = trained_with_frozen_part(compiled=True)
    assert compiled_losses == pytest.approx(losses)
    assert all(torch.allclose(value, weights[key]) for key, value in compiled_weights.items())
    assert graphs == 2
