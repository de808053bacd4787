import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from image_sets import write_folder
from selfkd.errors import (
    CheckpointError,
    DataError,
    MemoryExhaustedError,
    NonFiniteLossError,
    OptionError,
    RunError,
    RunInterruptedError,
    UserError,
)
from selfkd.methods.base import Method
from selfkd.methods.plain import Plain
from selfkd.recipes.reader import resolve
from selfkd.runs.build import Experiment
from selfkd.runs.evaluate import evaluate_run
from selfkd.runs.prepare import check_recipe
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training import fit
from selfkd.training.checkpoint_files import checkpoint_folder, checksum, epochs_done, newest_checkpoint
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.module import MethodModule
from selfkd.training.options import TrainerOptions


def trained(recipe, tmp_path, **options):
    return run(recipe, tmp_path / "runs", show_progress=False, **options)


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


def test_methods_of_one_seed_start_from_the_same_network_and_data(short):
    plain, dtskd = (Experiment.build(short(method, seed=3)) for method in ("plain", "dtskd"))
    for ours, theirs in zip(plain.method.deployed().parameters(), dtskd.method.deployed().parameters(), strict=True):
        assert torch.equal(ours, theirs)
    first, second = (next(iter(e.training_parts().training_loader.epoch(1))) for e in (plain, dtskd))
    assert torch.equal(first.images, second.images)
    assert first.indices is None
    assert second.indices is not None


def test_a_run_is_repeatable_bit_for_bit(short, tmp_path):
    recipe = short()
    files = [trained(recipe, tmp_path / str(attempt)).network_file.read_bytes() for attempt in range(2)]
    assert files[0] == files[1]


def test_a_finished_run_is_kept_until_told_otherwise(short, tmp_path):
    recipe = short(**{"trainer.epochs": 1})
    folder = trained(recipe, tmp_path)
    before = folder.scores_file.stat().st_mtime_ns
    trained(recipe, tmp_path)
    assert folder.scores_file.stat().st_mtime_ns == before
    trained(recipe, tmp_path, overwrite=True)
    assert folder.scores_file.stat().st_mtime_ns > before


@pytest.fixture
def photographed(short, tmp_path):
    """`photographed(root)`: a recipe that learns three digits from image files."""

    def make(root, **overrides):
        options = {"data": "folder", "data.image_size": 16, "trainer.epochs": 1, "name": "photographed"}
        return short("plain", **options, **{"data.root": str(root), **overrides})

    for split, count, start in (("train", 6, 0), ("test", 2, 6)):
        write_folder(tmp_path / "three" / split, count, digits=range(3), start=start)
    return make


def test_a_finished_run_is_checked_against_the_data_that_is_named(photographed, tmp_path, caplog):
    caplog.set_level("INFO", "selfkd")
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    before = folder.scores_file.read_bytes()
    shutil.copytree(tmp_path / "three", tmp_path / "moved")
    for same in ("three", "moved"):
        caplog.clear()
        assert trained(photographed(tmp_path / same), tmp_path) == folder
        assert "is finished; --overwrite trains it again" in caplog.text
    shutil.copytree(tmp_path / "three", tmp_path / "swapped")
    images = [next((tmp_path / "swapped" / "train" / name).iterdir()) for name in ("digit 0", "digit 1")]
    contents = [image.read_bytes() for image in images]
    for image, content in zip(images, reversed(contents), strict=True):
        image.write_bytes(content)
    write_folder(tmp_path / "others" / "train", 6, digits=range(3, 6))
    write_folder(tmp_path / "others" / "test", 2, digits=range(3, 6), start=6)
    for other in ("swapped", "others"):
        with pytest.raises(
            RunError, match="was trained on other data than data=folder gives now; give this one a name="
        ):
            trained(photographed(tmp_path / other), tmp_path)
    (tmp_path / "table.csv").write_text("image,label\n")
    for unreadable in ("nowhere", "table.csv"):
        with pytest.raises(DataError, match=f"{unreadable}' is not a folder"):
            trained(photographed(tmp_path / unreadable), tmp_path)
    assert folder.scores_file.read_bytes() == before


def test_a_finished_run_takes_no_option_that_an_unfinished_one_refuses(short, tmp_path):
    recipe = short(**{"trainer.epochs": 1})
    trained(recipe, tmp_path)
    with pytest.raises(OptionError, match="trainer.devices=0 is not allowed"):
        trained(short(**{"trainer.epochs": 1, "trainer.devices": 0}), tmp_path)


def test_another_experiment_in_the_folder_is_refused(short, tmp_path):
    folder = trained(short(name="mine", **{"trainer.epochs": 1}), tmp_path)
    other = short(name="mine", **{"trainer.epochs": 1, "optimizer.lr": 0.01})
    with pytest.raises(RunError, match=r"optimizer.lr: 0.05 there, 0.01 now.*name= of its own"):
        trained(other, tmp_path)
    assert folder.recipe().options["optimizer"]["lr"] == 0.05


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
    written, write, begin = [], fit.write_best, Method.begin_epoch

    def noting(checkpoints, epoch, weights):
        written.append(epoch + 1)
        write(checkpoints, epoch, weights)

    def stopping(method, progress):
        if progress.epoch == stopped_in:
            raise KeyboardInterrupt
        begin(method, progress)

    monkeypatch.setattr(fit, "write_best", noting)
    monkeypatch.setattr(Method, "begin_epoch", stopping)
    with pytest.raises(RunInterruptedError):
        trained(recipe, tmp_path)
    assert written == []
    monkeypatch.setattr(Method, "begin_epoch", begin)
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


def test_evaluating_a_run_gives_its_scores(short, tmp_path):
    folder = trained(short(), tmp_path)
    for which in ("last", "best"):
        for split in ("test", "train"):
            assert evaluate_run(folder.path, split, which, {}) == folder.scores()[which]["scores"][split]
    with pytest.raises(RunError, match="has no validation split, because data.validation_fraction was 0"):
        evaluate_run(folder.path, "validation", "last", {})


def test_evaluating_on_data_of_other_classes_says_so(photographed, tmp_path):
    write_folder(tmp_path / "two" / "train", 6, digits=range(2))
    write_folder(tmp_path / "two" / "test", 2, digits=range(2), start=6)
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    with pytest.raises(RunError, match="was trained on 3 classes; data.root gives 2"):
        evaluate_run(folder.path, "test", "last", {"data.root": str(tmp_path / "two")})


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(short, tmp_path, monkeypatch):
    from selfkd.methods.dtskd import DTSKD

    forward = DTSKD.forward

    def poisoned(self, batch, progress):
        output = forward(self, batch, progress)
        if progress.epoch == 2 and progress.step == 3:
            output.terms["structural"].mul_(math.nan)
        return output

    monkeypatch.setattr(DTSKD, "forward", poisoned)
    recipe = short()
    with pytest.raises(NonFiniteLossError, match="structural became NaN or infinite in epoch 3, steps 1 to 5"):
        trained(recipe, tmp_path)
    monkeypatch.undo()
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints")
    assert epochs_done(checkpoints) == 2
    assert trained(recipe, tmp_path).scores()["last"]["epoch"] == 4


def test_a_learning_rate_far_too_high_is_caught(short, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"NaN or infinite.*optimizer.lr"):
        trained(short("plain", **{"optimizer.lr": 1e30}), tmp_path)


@pytest.fixture
def stopped(short, tmp_path, monkeypatch):
    """`stopped(recipe)`: the folder of a run that ended in its third epoch."""
    from selfkd.methods.dtskd import DTSKD

    def stop(self, progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        Method.begin_epoch(self, progress)

    def train(recipe):
        with monkeypatch.context() as patched:
            patched.setattr(DTSKD, "begin_epoch", stop)
            with pytest.raises(RunInterruptedError, match="stopped after epoch 2 of 4; the same command continues"):
                trained(recipe, tmp_path)
        return RunFolder.of(recipe, tmp_path / "runs")

    return train


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(short, stopped, tmp_path, caplog):
    unbroken = run(short(), tmp_path / "unbroken", show_progress=False)
    folder = stopped(short())
    newest = checkpoint_folder(folder.checkpoints, 2) / "training.ckpt"
    newest.write_bytes(newest.read_bytes()[:5000])
    caplog.set_level("INFO", "selfkd")
    trained(short(), tmp_path)
    assert "training.ckpt is damaged; going back to the checkpoint after epoch 1" in caplog.text
    assert "continues after epoch 1 of 4" in caplog.text
    assert folder.network_file.read_bytes() == unbroken.network_file.read_bytes()
    assert folder.scores()["last"] == unbroken.scores()["last"]


def crafted(folder, change):
    """Change what the newest checkpoint holds, with checksums that are valid."""
    newest = newest_checkpoint(folder.checkpoints)
    content = torch.load(newest / "training.ckpt", weights_only=True)
    change(content)
    torch.save(content, newest / "training.ckpt")
    sums = json.loads((newest / "checksums.json").read_text())
    (newest / "checksums.json").write_text(json.dumps({**sums, "training.ckpt": checksum(newest / "training.ckpt")}))
    return newest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer_states", None),
        ("optimizer_states", [1]),
        ("lr_schedulers", ["x"]),
        ("loops", {}),
        ("selfkd_best", "x"),
        ("selfkd_processes", {}),
        ("selfkd_steps_per_epoch", "x"),
        ("selfkd_threads", 10**9),
        ("callbacks", "x"),
    ],
)
def test_a_checkpoint_that_cannot_be_continued_is_replaced_by_the_one_before(
    unfinished, finished, tmp_path, caplog, key, value
):
    crafted(unfinished, lambda content: content.pop(key) if value is None else content.update({key: value}))
    trained(unfinished.recipe(), tmp_path)
    assert f"training.ckpt holds no usable {key}; going back to the checkpoint after epoch 1" in caplog.text
    assert unfinished.network_file.read_bytes() == finished.network_file.read_bytes()
    assert unfinished.scores()["last"] == finished.scores()["last"]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["optimizer_states"][0].pop("param_groups"),
        lambda content: content["optimizer_states"][0].update(param_groups=3),
        lambda content: content["loops"].update(fit_loop=None),
        lambda content: content["state_dict"].update({next(iter(content["state_dict"])): [1.5]}),
    ],
    ids=range(4),
)
def test_a_made_up_checkpoint_ends_in_an_error_of_ours(unfinished, tmp_path, change):
    newest = crafted(unfinished, change)
    with pytest.raises(
        CheckpointError, match=f"{newest.name} does not fit this run|the checkpoint does not fit this run"
    ):
        trained(unfinished.recipe(), tmp_path)


def test_weights_that_are_no_numbers_have_no_scores(finished, tmp_path):
    crafted(finished, lambda content: content["state_dict"]["method.backbone.network.fc.bias"].fill_(math.nan))
    said = r"logits of main are NaN or infinite: the weights in .*epoch-000003.training.ckpt are damaged"
    with pytest.raises(CheckpointError, match=said):
        evaluate_run(finished.path, "test", "last", {})
    finished.scores_file.unlink()
    with pytest.raises(CheckpointError, match=said):
        trained(finished.recipe(), tmp_path)
    assert not finished.is_finished


@pytest.mark.parametrize(
    ("error", "said"),
    [(AssertionError(), "(AssertionError)"), (KeyError("loops"), "(KeyError: 'loops')")],
    ids=["says nothing", "says a key"],
)
def test_why_a_checkpoint_does_not_fit_is_said(unfinished, tmp_path, monkeypatch, error, said):
    def unfit(module, content):
        raise error

    monkeypatch.setattr(MethodModule, "on_load_checkpoint", unfit)
    with pytest.raises(CheckpointError) as raised:
        trained(unfinished.recipe(), tmp_path)
    assert str(raised.value).endswith(f"does not fit this run {said}")


def test_a_made_up_history_ends_in_an_error_of_ours(unfinished, tmp_path):
    newest = newest_checkpoint(unfinished.checkpoints)
    (newest / "history.pt").unlink()
    torch.save({"probabilities": 3}, newest / "history.pt")
    sums = json.loads((newest / "checksums.json").read_text())
    (newest / "checksums.json").write_text(json.dumps({**sums, "history.pt": checksum(newest / "history.pt")}))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        trained(unfinished.recipe(), tmp_path)


def test_where_no_whole_checkpoint_is_left_it_is_said(short, stopped, tmp_path):
    recipe = short()
    folder = stopped(recipe)
    for file in folder.checkpoints.rglob("training.ckpt"):
        file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="training.ckpt is damaged; no whole checkpoint is left.*--overwrite"):
        trained(recipe, tmp_path)
    assert trained(recipe, tmp_path, overwrite=True).scores_file.exists()


def test_a_checkpoint_of_another_method_is_refused(short, tmp_path):
    plain, dtskd = (trained(short(method), tmp_path) for method in ("plain", "dtskd"))
    shutil.rmtree(dtskd.checkpoints)
    shutil.copytree(plain.checkpoints, dtskd.checkpoints)
    dtskd.scores_file.unlink()
    with pytest.raises(CheckpointError, match="does not fit"):
        trained(short(), tmp_path)


def test_weights_that_are_no_numbers_are_never_saved(short, tmp_path, monkeypatch):
    from selfkd.methods.plain import Plain

    def spoil(self, batch, output):
        if self.epochs_done == 1:
            self.backbone.network.fc.bias.data.fill_(math.nan)

    recipe = short("plain", **{"loader.batch_size": 100})  # one step an epoch
    monkeypatch.setattr(Plain, "after_step", spoil)
    with pytest.raises(NonFiniteLossError, match="weights became NaN or infinite at the end of epoch 2"):
        trained(recipe, tmp_path)
    monkeypatch.undo()
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints")
    assert epochs_done(checkpoints) == 1
    assert trained(recipe, tmp_path).scores()["last"]["epoch"] == 4


def test_statistics_that_are_no_numbers_are_never_saved(short, tmp_path, monkeypatch):
    def spoil(self, batch, output):
        if self.epochs_done == 1:
            next(buffer for name, buffer in self.named_buffers() if name.endswith("running_mean")).fill_(math.nan)

    monkeypatch.setattr(Plain, "after_step", spoil)
    with pytest.raises(NonFiniteLossError, match="^logits of main are NaN .* in the evaluation after epoch 2;"):
        trained(short("plain"), tmp_path)
    (checkpoints,) = (tmp_path / "runs").rglob("checkpoints")
    assert epochs_done(checkpoints) == 1


def test_other_data_under_the_same_name_is_noticed(tmp_path, digits_as_cifar100, caplog):
    from pyarrow import parquet

    from selfkd.recipes.reader import resolve

    root = digits_as_cifar100
    overrides = {"data.root": str(root), "backbone.width": 8, "trainer.epochs": 1, "loader.batch_size": 20}
    recipe = resolve("dtskd/cifar100/resnet18/plain", overrides)
    folder = trained(recipe, tmp_path)
    file = root / "train-00000-of-00002.parquet"
    table = parquet.read_table(file)
    parquet.write_table(table.take(list(reversed(range(len(table))))), file)
    evaluate_run(folder.path, "test", "last", {})
    assert "was trained on other data" in caplog.text
    folder.scores_file.unlink()
    with pytest.raises(RunError, match="was trained on other data"):
        trained(recipe, tmp_path)


def test_a_fingerprint_of_an_older_version_is_compared_by_its_own_rule(photographed, tmp_path, caplog):
    recipe = photographed(tmp_path / "three")
    folder = trained(recipe, tmp_path)
    older = Experiment.build(recipe).splits._checksum(contents=False)
    assert not older.startswith("content")
    write_json(folder.data_file, {"fingerprint": older})
    evaluate_run(folder.path, "test", "last", {})
    trained(recipe, tmp_path)
    assert "was trained on other data" not in caplog.text
    image = next((tmp_path / "three" / "train" / "digit 0").iterdir())
    image.write_bytes(image.read_bytes() + b"longer")
    evaluate_run(folder.path, "test", "last", {})
    assert "was trained on other data" in caplog.text
    with pytest.raises(RunError, match="was trained on other data"):
        trained(recipe, tmp_path)


def test_a_run_from_before_an_option_existed_is_still_the_same(short, tmp_path):
    recipe = short()
    folder = trained(recipe, tmp_path)
    lines = folder.recipe_file.read_text().splitlines(keepends=True)
    folder.recipe_file.write_text("".join(line for line in lines if "guard_every" not in line))
    check_recipe(folder, recipe)
    assert evaluate_run(folder.path, "test", "last", {}) == folder.scores()["last"]["scores"]["test"]


def test_the_history_follows_the_method_to_its_device(short):
    """Lightning loads a checkpoint while the method is still on the CPU."""
    experiment = Experiment.build(short())
    history = experiment.method.memories["history"]
    history.write(torch.arange(2), dict.fromkeys(history.heads, torch.full((2, 10), 0.1)))
    history.commit()
    module = MethodModule(experiment.method, experiment.training_parts(), TrainerOptions(epochs=1))
    module.to("meta").begin_epoch()
    assert history.state_dict()["probabilities"].device.type == "meta"


def test_the_history_is_kept_as_the_recipe_says(short, tmp_path, caplog):
    caplog.set_level("INFO")
    recipe = short(**{"history.top_k": 3, "history.storage": "memmap", "trainer.epochs": 2})
    folder = trained(recipe, tmp_path)
    assert f"takes 0.01 MB in files in {folder.path}: the top 3 of 10 classes; all of them would take 0.03 MB" in (
        caplog.text
    )
    assert f"the history of predictions is kept in files in {folder.path}: history.storage=memmap" in caplog.text
    (history_file,) = folder.checkpoints.rglob("history.pt")
    assert torch.load(history_file)["form"] == "top 3 classes in float16"
    assert not (folder.path / "history").exists()


def test_where_the_history_lives_is_no_part_of_the_experiment(short, tmp_path):
    folders = [
        trained(short(**{"history.storage": storage, "trainer.epochs": 2}), tmp_path / storage)
        for storage in ("auto", "memmap")
    ]
    assert folders[0].path.parts[-2:] == folders[1].path.parts[-2:]
    assert folders[0].scores()["last"] == folders[1].scores()["last"]
    check_recipe(folders[1], short(**{"history.storage": "pinned", "trainer.epochs": 2}))
    with pytest.raises(RunError, match="history.top_k: None there, 3 now"):
        check_recipe(folders[1], short(**{"history.top_k": 3, "trainer.epochs": 2}))


def test_options_of_a_history_that_is_not_kept_are_said_to_do_nothing(short, tmp_path, caplog):
    caplog.set_level("INFO")
    for overrides, said in (({}, False), ({"history.storage": "memmap"}, False), ({"history.dtype": "float16"}, True)):
        caplog.clear()
        Experiment.build(short("plain", **overrides)).configure_history(tmp_path)
        assert ("history.top_k and history.dtype have no effect: Plain keeps no history" in caplog.text) is said


def test_two_processes_do_not_share_a_folder(short, tmp_path):
    recipe = short()
    folder = RunFolder.of(recipe, tmp_path / "runs")
    with folder.locked(), pytest.raises(RunError, match="another process is training"):
        trained(recipe, tmp_path)
    assert trained(recipe, tmp_path).scores_file.exists()


def test_a_checkpoint_without_its_recipe_is_refused_and_overwrite_starts_afresh(short, tmp_path):
    recipe = short()
    folder = trained(recipe, tmp_path)
    folder.recipe_file.unlink()
    folder.scores_file.unlink()
    with pytest.raises(RunError, match="holds a checkpoint without its recipe.yaml"):
        trained(recipe, tmp_path)
    folder.metrics_file.write_text("damaged")
    assert trained(recipe, tmp_path, overwrite=True).recipe().options == recipe.options


@pytest.mark.parametrize(
    "overrides",
    [
        {"trainer.accelerator": "cpu", "trainer.precision": "16-mixed"},
        {"schedule.milestones": "[0.75,0.5]"},
        {"optimizer.momentum": 2},
        {"augmentation": "crop_flip", "augmentation.padding": 16, "augmentation.padding_mode": "reflect"},
        {"regularization.cutout": 5},
        {"regularization.mixup": 0.2},  # its history would speak of mixtures
        {"history.top_k": 10},
        {"method.temperature": 0},
    ],
)
def test_what_cannot_work_leaves_no_folder(short, tmp_path, overrides):
    with pytest.raises(OptionError, match=list(overrides)[-1] if "augm" not in str(overrides) else "padding"):
        trained(short(**overrides), tmp_path)
    assert not (tmp_path / "runs").exists()


def test_every_regularizer_trains(short, tmp_path):
    recipe = short(
        "plain",
        **{
            "trainer.epochs": 1,
            "loader.workers": 0,
            "regularization.policy": "trivialaugment",
            "regularization.cutout": 4,
            "regularization.mixup": 0.2,
            "regularization.cutmix": 1,
        },
    )
    folder = trained(recipe, tmp_path)
    assert folder.recipe() == recipe
    assert folder.scores()["last"]["epoch"] == 1


def test_half_precision_needs_a_gpu(short, tmp_path):
    with pytest.raises(OptionError, match="trainer.precision='16-mixed' .* 32 or bf16-mixed on a CPU"):
        trained(short(**{"trainer.precision": "16-mixed", "trainer.accelerator": "cpu"}), tmp_path)
    for accelerator in ("tpo", "tpu"):  # no such one, and one whose library is not installed
        with pytest.raises(UserError, match=f"trainer.accelerator='{accelerator}'"):
            trained(short(**{"trainer.accelerator": accelerator}), tmp_path)


def test_bfloat16_trains(short, tmp_path):
    scores = trained(short(**{"trainer.precision": "bf16-mixed"}), tmp_path).scores()
    assert scores["last"]["scores"]["train"]["main"]["top1"]["value"] > 20


def test_tensorboard_is_written(short, tmp_path):
    folder = trained(short(**{"trainer.loggers": "[csv,tensorboard]", "trainer.epochs": 1}), tmp_path)
    assert list((folder.path / "tensorboard").glob("events.*"))


def test_without_the_log_there_are_no_times(short, tmp_path):
    folder = trained(short(**{"trainer.loggers": "[]", "trainer.epochs": 1}), tmp_path)
    assert folder.scores()["seconds"]["train_epoch_median"] is None


def test_somebodys_own_method_trains(short, tmp_path):
    recipe = short(**{"method": "selfkd.methods.ps_kd:PSKD", "method.alpha": 0.5, "trainer.epochs": 1})
    assert trained(recipe, tmp_path).scores()["method"] == "selfkd.methods.ps_kd:PSKD"


def test_timm_networks_train(short, tmp_path):
    from selfkd.recipes.reader import resolve

    recipe = resolve(
        "demo/digits/resnet18/dtskd",
        {"backbone": "mobilenetv3_small_050", "data.image_size": 32, "trainer.epochs": 1},
    )
    assert trained(recipe, tmp_path).network_file.exists()


def test_a_network_of_torchvision_trains_and_comes_back(tmp_path):
    from selfkd.recipes.reader import resolve
    from selfkd.runs.loading import load

    overrides = {"backbone": "torchvision/shufflenet_v2_x0_5", "data.image_size": 32, "trainer.epochs": 1}
    folder = trained(resolve("demo/digits/resnet18/dtskd", overrides), tmp_path)
    network = load(folder.path).network
    assert type(network).__module__ == "torchvision.models.shufflenetv2"
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


class Hungry(Plain):
    """Needs more memory than there is, above a size of batch."""

    def forward(self, batch, progress):
        if len(batch.images) > 20:
            torch.empty(1 << 50)
        return super().forward(batch, progress)

    def predict(self, images):
        if len(images) > 400:
            torch.empty(1 << 50)
        return super().predict(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loader.batch_size": 33, "loader.evaluation_batch_size": 300},
            "^cpu has too little memory for this network with loader.batch_size=33; loader.batch_size=16 or "
            "trainer.precision=bf16-mixed might fit, as a run of its own; 0 epochs are saved$",
        ),
        (
            {"loader.batch_size": 20, "loader.evaluation_batch_size": 500, "trainer.checkpoint_every": 1},
            "^evaluating with loader.evaluation_batch_size=500 needs more memory than there is .* a smaller one",
        ),
    ],
)
def test_too_little_memory_ends_a_run_with_advice_that_works(short, tmp_path, options, message):
    options = {"name": "hungry", "trainer.epochs": 2, "trainer.evaluate_every": 2, **options}
    with pytest.raises(MemoryExhaustedError, match=message):
        trained(short("plain", method=f"{__name__}:Hungry", **options), tmp_path)
    advised = {"loader.batch_size": 16, "loader.evaluation_batch_size": 300}
    changed = {key: advised[key] for key in advised if f"{key}=" in message}
    overwrite = "loader.batch_size" in changed
    folder = trained(
        short("plain", method=f"{__name__}:Hungry", **{**options, **changed}), tmp_path, overwrite=overwrite
    )
    assert folder.scores()["last"]["epoch"] == 2


def test_runs_that_utf_8_cannot_write_are_refused_before_training(tmp_path, monkeypatch):
    recipe = resolve("demo/digits/resnet18/plain")
    with pytest.raises(UserError, match="in characters that UTF-8 can write"):
        run(recipe, tmp_path / "r\udcff")
    (tmp_path / "w\udcff").mkdir()
    monkeypatch.chdir(tmp_path / "w\udcff")
    with pytest.raises(UserError, match="in characters that UTF-8 can write"):
        run(recipe, Path("runs"))
    assert [path.name for path in tmp_path.rglob("*")] == ["w\udcff"]
