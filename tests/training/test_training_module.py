"""Any task trains through `fit`: here a regression, of which lower is better."""

import math

import pytest
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader

from selfkd.errors import MemoryExhaustedError, NonFiniteLossError, RunInterruptedError
from selfkd.evaluation.scores import Score
from selfkd.training.checkpoint_content import load_weights
from selfkd.training.checkpoint_files import newest_checkpoint, weights_file
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.fit import fit
from selfkd.training.options import TrainerOptions
from selfkd.training.training_module import SelectionMetric, TrainingModule

EPOCHS = 6


class Diabetes(TrainingModule):
    """How far 442 patients' diabetes went within a year, from ten measurements; in points of its own scale."""

    def __init__(self, options, learning_rate=0.1):
        super().__init__(options, seed=0)
        measured, progress = load_diabetes(return_X_y=True)
        self.inputs, self.targets = torch.tensor(measured).float(), torch.tensor(progress).float()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Dropout(0.2), nn.Linear(10, 1))
        self.learning_rate = learning_rate
        self.losses, self.errors = [], []

    @property
    def trained(self):
        return self.network

    @property
    def selection_metric(self):
        return SelectionMetric("test", "error", "progress", higher_is_better=False)

    @property
    def steps_per_epoch(self):
        return 5

    def train_dataloader(self):
        return DataLoader(range(400), batch_size=80, generator=torch.Generator())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.learning_rate, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch, batch_idx):
        loss = (self.network(self.inputs[batch])[:, 0] - self.targets[batch]).square().mean()
        self.losses.append(float(loss.detach()))
        return loss

    def end_epoch(self):
        return {"train/loss": self.losses[-1]}

    @torch.no_grad()
    def evaluate(self):
        self.network.eval()
        error = (self.network(self.inputs[400:])[:, 0] - self.targets[400:]).abs().mean()
        self.network.train()
        self.errors.append(float(error))
        return measured(self.errors[-1])


def measured(error, unit="points"):
    return {"test/error/progress": Score(value=error, unit=unit, n=42)}


def diabetes(epochs=EPOCHS, **options):
    return Diabetes(TrainerOptions(epochs=epochs, accelerator="cpu", channels_last=False, **options))


def trained(module, folder):
    fit(module, folder, "diabetes", show_progress=False)
    return module


def test_a_regression_trains_and_the_lowest_error_is_its_best(tmp_path, caplog):
    caplog.set_level("INFO", "selfkd")
    module = trained(diabetes(evaluate_every=2, best_after_epoch=2), tmp_path)
    rows = read_epoch_log(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    evaluated = {int(row["epoch"]): row["test/error/progress"] for row in rows if "test/error/progress" in row}
    assert list(evaluated) == [2, 4, 6]
    assert list(evaluated.values()) == pytest.approx(module.errors)
    best = min((4, 6), key=evaluated.get)
    network = diabetes().network
    assert load_weights(network, weights_file(tmp_path / "checkpoints", "best"), "network.") == best
    assert load_weights(network, weights_file(tmp_path / "checkpoints", "last"), "network.") == EPOCHS
    assert torch.equal(network[1].weight, module.network[1].weight)
    assert module.latest == {"value": module.errors[-1], "unit": "points", "n": 42}
    lines = [message for message in caplog.messages if message.startswith("diabetes: ")]
    assert len(lines) == 3
    assert lines[-1].startswith(f"diabetes: epoch 6/6, test {module.errors[-1]:.4g} points, loss ")


def test_the_first_of_equal_or_better_figures_stays(tmp_path, monkeypatch):
    errors = iter([5.0, 3.0, 4.0, 3.0, 9.0, 3.5])
    monkeypatch.setattr(Diabetes, "evaluate", lambda module: measured(next(errors)))
    trained(diabetes(), tmp_path)
    assert load_weights(diabetes().network, weights_file(tmp_path / "checkpoints", "best"), "network.") == 2


def test_a_figure_in_percent_is_no_fraction(tmp_path, monkeypatch, caplog):
    """What a task measures is kept as it says it, whatever its unit."""
    caplog.set_level("INFO", "selfkd")
    monkeypatch.setattr(Diabetes, "evaluate", lambda module: measured(41.2, "%"))
    module = trained(diabetes(evaluate_every=EPOCHS), tmp_path)
    assert module.latest == {"value": 41.2, "unit": "%", "n": 42}
    assert read_epoch_log(tmp_path / "metrics.csv")[-1]["test/error/progress"] == 41.2
    assert "epoch 6/6, test 41.20 %, loss" in caplog.text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return trained(diabetes(), folder), folder


@pytest.mark.parametrize("stopped_in", [1, 4])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(whole, tmp_path, monkeypatch, stopped_in):
    never_stopped, its_folder = whole

    def stop(module):
        if module.current_epoch == stopped_in:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Diabetes, "begin_epoch", stop)
        with pytest.raises(RunInterruptedError, match=f"stopped after epoch {stopped_in} of {EPOCHS}"):
            trained(diabetes(), tmp_path)
    continued = trained(diabetes(), tmp_path)
    assert torch.equal(continued.network[1].weight, never_stopped.network[1].weight)
    weights = []
    for folder in (its_folder, tmp_path):
        file = weights_file(folder / "checkpoints", "best")
        network = diabetes().network
        weights.append((load_weights(network, file, "network."), network[1].weight.tolist()))
    assert weights[0] == weights[1]
    logs = [read_epoch_log(folder / "metrics.csv") for folder in (its_folder, tmp_path)]
    figures = [[(row["train/loss"], row["test/error/progress"]) for row in rows] for rows in logs]
    assert figures[0] == figures[1]


def test_before_the_first_evaluation_any_figure_is_better(tmp_path, monkeypatch):
    """A checkpoint of that time says so, too."""

    def stop(module):
        if module.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Diabetes, "begin_epoch", stop)
        with pytest.raises(RunInterruptedError):
            trained(diabetes(evaluate_every=3), tmp_path)
    assert newest_checkpoint(tmp_path / "checkpoints") is not None
    trained(diabetes(evaluate_every=3), tmp_path)
    assert weights_file(tmp_path / "checkpoints", "best").is_file()


def test_what_is_no_number_ends_any_training(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Diabetes, "evaluate", lambda module: measured(math.nan))
        with pytest.raises(NonFiniteLossError, match="test/error/progress is NaN .* the evaluation after epoch 1"):
            trained(diabetes(), tmp_path / "figure")
    module = Diabetes(TrainerOptions(epochs=EPOCHS, accelerator="cpu", channels_last=False), learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match="weights became NaN or infinite at the end of epoch 1"):
        trained(module, tmp_path / "weights")
    assert newest_checkpoint(tmp_path / "weights" / "checkpoints") is None


def test_too_little_memory_is_said_in_the_tasks_words(tmp_path, monkeypatch):
    def hungry(module, batch, batch_idx):
        torch.empty(1 << 50)

    monkeypatch.setattr(Diabetes, "training_step", hungry)
    with pytest.raises(MemoryExhaustedError, match="^cpu has too little memory for this training; 0 epochs are saved$"):
        trained(diabetes(), tmp_path / "plain")
    monkeypatch.setattr(Diabetes, "too_little_memory", lambda module, device: f"{device}: fewer patients might fit")
    with pytest.raises(MemoryExhaustedError, match=r"^cpu: fewer patients might fit; 0 epochs are saved$"):
        trained(diabetes(), tmp_path / "own words")


@pytest.mark.parametrize("asked", [None, 2])
def test_threads_are_the_users_or_those_of_before(tmp_path, asked):
    before = torch.get_num_threads()
    try:
        trained(diabetes(epochs=1, threads=2), tmp_path)
        torch.set_num_threads(1)
        trained(diabetes(epochs=1, threads=asked), tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
