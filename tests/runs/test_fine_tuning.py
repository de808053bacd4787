"""Fine-tuning runs that are interrupted or killed before, in and after the frozen epochs end as if they never were."""

import signal

import pytest
import torch
from safetensors.torch import load_file
from short_runs import interrupted, trained

from real_runs import differences, finish, log_without_times, outcome, start, wait_for_epoch
from selfkd.errors import OptionError
from selfkd.recipes.reader import resolve
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import check_training
from selfkd.training.checkpoint_content import read_weights

DEMO = "demo/digits/resnet18/plain"
OPTIONS = {
    "backbone.width": 8,
    "data.train_per_class": 3,
    "trainer.epochs": 5,
    "trainer.evaluate_every": 1,
    "trainer.freeze": 2,
    "trainer.freeze_epochs": 2,
    "optimizer.head_lr_factor": 5,
    "name": "tuned",
}
DTSKD, LOTH = ("dtskd", "sgd"), ("loth", "adamw")
EPOCHS = ((0,), (1,), (2,), (3,), (1, 2, 3, 4))
FROZEN = ("conv1.", "bn1.", "layer1.", "layer2.")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    whole = {"trainer.freeze": 0, "trainer.freeze_epochs": None}
    options = {**OPTIONS, **whole, "trainer.epochs": 1, "name": "first", "data.classes": [0, 1, 2, 3, 4]}
    return str(trained(resolve(DEMO, options), tmp_path_factory.mktemp("first")).network_file)


@pytest.fixture(params=[DTSKD, pytest.param(LOTH, marks=pytest.mark.slow)], ids="-".join, scope="module")
def recipe(request, weights):
    """A method that remembers and has branches, and one whose groups have weight decays of their own."""
    method, optimizer = request.param
    options = {"method.block": "gbn"} if method == "loth" else {}
    chosen = {"method": method, "optimizer": optimizer, "backbone.weights": weights}
    return resolve(DEMO, {**OPTIONS, **options, **chosen})


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory):
    return trained(recipe, tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize(
    ("recipe", "epochs"),
    [
        *((DTSKD, epochs) for epochs in EPOCHS),
        *(pytest.param(LOTH, epochs, marks=() if epochs == (2,) else pytest.mark.slow) for epochs in EPOCHS),
    ],
    indirect=["recipe"],
    ids=lambda value: "-".join(value) if value in (DTSKD, LOTH) else str(value),
)
def test_an_interrupted_run_ends_as_if_it_never_was(recipe, unbroken, epochs, tmp_path):
    for epoch in epochs:
        with interrupted(epoch):
            trained(recipe, tmp_path)
    assert differences(outcome(unbroken), outcome(trained(recipe, tmp_path))) == []


def test_the_frozen_part_is_the_files_until_it_trains(recipe, weights, tmp_path):
    before = load_file(weights)
    for done, expected in ((2, True), (3, False)):
        with interrupted(done):
            trained(recipe, tmp_path)
        file = RunFolder(tmp_path / "runs" / "tuned" / "seed-0").checkpoints / f"epoch-{done:06d}" / "training.ckpt"
        after, _ = read_weights(file, "method.backbone.network.")
        for key, value in before.items():
            same = torch.equal(value, after[key]) if value.shape == after[key].shape else False
            assert same is (expected and key.startswith(FROZEN)), (done, key)


def test_the_log_has_the_unscaled_learning_rate(recipe, unbroken):
    first = log_without_times(unbroken)[0]
    assert first["lr"] == pytest.approx(recipe.options["optimizer"]["lr"])


def test_freezing_is_refused_with_several_processes(tmp_path):
    given = resolve(DEMO, {**OPTIONS, "trainer.devices": 2, "trainer.accelerator": "cpu"})
    with pytest.raises(OptionError, match=r"trainer.freeze=2 is not allowed; several processes exchange the gradients"):
        trained(given, tmp_path)
    assert not (tmp_path / "runs").exists()


def test_frozen_random_weights_are_a_warning(weights, tmp_path):
    def warnings(**options):
        given = {**OPTIONS, **options}
        if "backbone" in given:
            del given["backbone.width"]
        return [line for line in check_training(resolve(DEMO, given), tmp_path) if "freeze" in line]

    random = "trainer.freeze=2 freezes the random weights that backbone=resnet18_cifar starts from"
    assert warnings() == [f"{random}; set backbone.weights=FILE, or leave trainer.freeze out"]
    (of_timm,) = warnings(backbone="resnet18")
    assert "set backbone.weights=FILE, or backbone.pretrained=true, or leave" in of_timm
    assert warnings(**{"backbone.weights": weights}) == []
    assert warnings(**{"trainer.freeze": 0, "trainer.freeze_epochs": None}) == []


def test_a_teacher_that_freezes_nothing_has_no_frozen_epochs(weights):
    teacher = {"method": "kd", "teacher": "recipe", "teacher.recipe": DEMO, "teacher.trainer.freeze": 0}
    (recipe,) = teachers_first(resolve(DEMO, {**OPTIONS, **teacher, "backbone.weights": weights}))
    assert recipe.options["trainer"]["freeze_epochs"] is None


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_killed_run_ends_as_if_it_never_was(weights, epoch, tmp_path):
    options = {
        **OPTIONS,
        "trainer.epochs": 8,
        "trainer.freeze_epochs": 3,
        "data.train_per_class": 10,
        "method": "dtskd",
    }
    overrides = [f"{key}={value}" for key, value in {**options, "backbone.weights": weights}.items()]
    unbroken, broken = (RunFolder(tmp_path / runs / "tuned" / "seed-0") for runs in ("unbroken", "broken"))
    assert finish(start(DEMO, tmp_path / "unbroken", *overrides))[0] == 0
    process = start(DEMO, tmp_path / "broken", *overrides)
    wait_for_epoch(broken, 2 * epoch - 1, process)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    status, errors = finish(start(DEMO, tmp_path / "broken", *overrides))
    assert status == 0, errors
    assert differences(outcome(unbroken), outcome(broken)) == []
