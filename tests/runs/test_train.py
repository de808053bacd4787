from pathlib import Path

import pytest
import torch
from short_runs import trained

from selfkd.errors import (
    MemoryExhaustedError,
    NonFiniteLossError,
    OptionError,
    UserError,
)
from selfkd.methods.plain import Plain
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run


def test_a_run_is_repeatable_bit_for_bit(short, tmp_path):
    recipe = short()
    files = [trained(recipe, tmp_path / str(attempt)).network_file.read_bytes() for attempt in range(2)]
    assert files[0] == files[1]


def test_a_finished_run_is_kept_unless_it_is_overwritten(short, tmp_path):
    recipe = short(**{"trainer.epochs": 1})
    folder = trained(recipe, tmp_path)
    before = folder.scores_file.stat().st_mtime_ns
    trained(recipe, tmp_path)
    assert folder.scores_file.stat().st_mtime_ns == before
    trained(recipe, tmp_path, overwrite=True)
    assert folder.scores_file.stat().st_mtime_ns > before


def test_a_finished_run_takes_no_option_that_an_unfinished_one_refuses(short, tmp_path):
    recipe = short(**{"trainer.epochs": 1})
    trained(recipe, tmp_path)
    with pytest.raises(OptionError, match="trainer.devices=0 is not allowed"):
        trained(short(**{"trainer.epochs": 1, "trainer.devices": 0}), tmp_path)


def test_a_learning_rate_far_too_high_is_caught(short, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"NaN or infinite.*optimizer.lr"):
        trained(short("plain", **{"optimizer.lr": 1e30}), tmp_path)


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
def test_a_refused_option_leaves_no_folder(short, tmp_path, overrides):
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


def test_a_method_of_the_users_own_trains(short, tmp_path):
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
    from selfkd.api import load
    from selfkd.recipes.reader import resolve

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
            "^cpu has too little memory for this network with loader.batch_size=33; a new run with "
            "loader.batch_size=16 or trainer.precision=bf16-mixed might fit; 0 epochs are saved$",
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
