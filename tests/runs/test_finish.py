"""What a finished run leaves in its folder."""

import json
from typing import ClassVar

import pytest
import torch
from short_runs import interrupted, trained

from selfkd.contract import Needs, StepOutput
from selfkd.methods.plain import Plain
from selfkd.training import fit
from selfkd.training.epoch_log import read_epoch_log


def test_a_run_folder_holds_everything(short, tmp_path):
    folder = trained(short(seed=2), tmp_path)
    assert (
        folder.path
        == tmp_path
        / "runs/demo/digits/resnet18/dtskd+backbone.width=8+trainer.epochs=4+trainer.evaluate_every=1/seed-2"
    )
    scores = folder.scores()
    assert scores["selection"] == {
        "rule": "best-on-test",
        "after_epoch": 0,
        "metric": "top1",
        "higher_is_better": True,
    }
    for which in ("last", "best"):
        assert set(scores[which]["scores"]) == {"train", "test"}
        for split, count in (("train", 100), ("test", 1697)):
            heads = scores[which]["scores"][split]
            assert list(heads) == ["main", "branch1", "branch2", "branch3"]
            assert heads["main"]["top1"]["n"] == count
    rows = read_epoch_log(folder.metrics_file)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["test/top1/branch2"] == pytest.approx(scores["last"]["scores"]["test"]["branch2"]["top1"]["value"])
    assert [row["lr"] for row in rows] == pytest.approx([0.05, 0.05, 0.005, 0.0005]), "at each epoch's first step"
    assert [row["images/train"] for row in rows] == [100] * 4
    assert scores["images_seen"] == 400
    best = max(rows, key=lambda row: row["test/top1/main"])
    assert scores["best"]["epoch"] == best["epoch"]
    assert scores["best"]["scores"]["test"]["main"]["top1"]["value"] == pytest.approx(best["test/top1/main"])
    assert scores["class_names"] == [str(digit) for digit in range(10)]
    own = scores["own_best"]["branch1"]
    assert own["value"] == max(row["test/top1/branch1"] for row in rows)
    assert rows[own["epoch"] - 1]["test/top1/branch1"] == own["value"]
    environment = json.loads(folder.environment_file.read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert str(tmp_path) not in folder.environment_file.read_text() + folder.scores_file.read_text()


class Pairs(Plain):
    """A method that needs two views of pairs."""

    needs: ClassVar[Needs] = Needs(views=2, same_class=1)

    def forward(self, batch, progress):
        logits = self.backbone(batch.images).logits[: len(batch.labels)]
        return StepOutput(torch.nn.functional.cross_entropy(logits, batch.labels), {}, {"main": logits})


def test_every_view_and_follower_of_a_sample_is_an_image_seen(short, tmp_path):
    folder = trained(short("plain", method=f"{__name__}:Pairs", **{"trainer.epochs": 2}), tmp_path)
    assert [row["images/train"] for row in read_epoch_log(folder.metrics_file)] == [400, 400]
    assert folder.scores()["images_seen"] == 800


def test_a_run_that_an_older_version_began_does_not_say_how_many_images_it_saw(short, tmp_path):
    with interrupted(2):
        trained(short(), tmp_path)
    (log,) = (tmp_path / "runs").rglob("metrics.csv")
    log.write_text(log.read_text().replace("images/train", "images/old"))
    folder = trained(short(), tmp_path)
    assert folder.scores()["images_seen"] is None


def test_the_best_epoch_obeys_the_papers_rule(short, tmp_path):
    folder = trained(short(**{"trainer.best_after_epoch": 2}), tmp_path)
    rows = read_epoch_log(folder.metrics_file)
    admitted = [row for row in rows if row["epoch"] > 2]
    best = max(admitted, key=lambda row: row["test/top1/main"])
    assert folder.scores()["best"]["epoch"] == best["epoch"]
    assert folder.scores()["selection"]["after_epoch"] == 2


@pytest.mark.parametrize("stopped_in", [2, 3])
def test_no_epoch_before_the_rule_is_written_and_an_interrupted_run_still_has_a_best(
    short, tmp_path, monkeypatch, stopped_in
):
    """Evaluated are epochs 2, 4 and 5; admitted 4 and 5."""
    recipe = short(**{"trainer.best_after_epoch": 3, "trainer.epochs": 5, "trainer.evaluate_every": 2})
    written, write = [], fit.write_best

    def noting(checkpoints, epoch, weights):
        written.append(epoch + 1)
        write(checkpoints, epoch, weights)

    monkeypatch.setattr(fit, "write_best", noting)
    with interrupted(stopped_in):
        trained(recipe, tmp_path)
    assert written == []
    folder = trained(recipe, tmp_path)
    assert written
    assert set(written) <= {4, 5}
    assert folder.scores()["best"]["epoch"] == written[-1]


def test_a_rule_that_admits_no_epoch_leaves_the_best_of_all(short, tmp_path):
    folder = trained(short(**{"trainer.best_after_epoch": 100}), tmp_path)
    rows = read_epoch_log(folder.metrics_file)
    assert folder.scores()["best"]["epoch"] == max(rows, key=lambda row: row["test/top1/main"])["epoch"]


def test_a_validation_split_chooses_and_is_reported(short, tmp_path):
    recipe = short(**{"data.train_per_class": 20, "data.validation_fraction": 0.5, "trainer.evaluate_every": 2})
    folder = trained(recipe, tmp_path)
    scores = folder.scores()
    assert scores["selection"]["rule"] == "best-on-validation"
    assert scores["last"]["scores"]["validation"]["main"]["top1"]["n"] == 100
    rows = read_epoch_log(folder.metrics_file)
    assert "validation/top1/main" not in rows[0]
    assert "validation/top1/main" in rows[1]
    assert not any(key.startswith("test/") for row in rows for key in row), "the test split waits until the end"


def test_without_the_log_there_are_no_times(short, tmp_path):
    folder = trained(short(**{"trainer.loggers": "[]", "trainer.epochs": 1}), tmp_path)
    assert folder.scores()["seconds"]["train_epoch_median"] is None


def test_tensorboard_is_written(short, tmp_path):
    folder = trained(short(**{"trainer.loggers": "[csv,tensorboard]", "trainer.epochs": 1}), tmp_path)
    assert list((folder.path / "tensorboard").glob("events.*"))
