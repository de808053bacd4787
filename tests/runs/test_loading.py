import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import selfkd
from selfkd.cli import main
from selfkd.errors import (
    CheckpointError,
    MemoryExhaustedError,
    OptionError,
    ParityError,
    RunError,
    RunInterruptedError,
    UserError,
    shown,
)
from selfkd.export import network_files
from selfkd.export.network_files import load_network, save_network
from selfkd.methods.base import Method
from selfkd.methods.dtskd import DTSKD
from selfkd.methods.plain import Plain
from selfkd.runs.evaluate import evaluate_run
from selfkd.runs.export import export_run
from selfkd.runs.network_file import network_file_fault
from selfkd.runs.networks import plain_network
from selfkd.runs.prediction import predict
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_files import weights_file
from selfkd.training.epoch_log import read_epoch_log


@pytest.fixture
def folder(short, tmp_path):
    return run(short(**{"trainer.epochs": 60, "trainer.evaluate_every": 30}), tmp_path / "runs", show_progress=False)


@pytest.fixture
def images(tmp_path):
    files = []
    for position in range(20):
        files.append(tmp_path / f"{position}.png")
        Image.fromarray(np.uint8(load_digits().images[position] * (255 / 16))).save(files[-1])
    return files


def test_a_loaded_run_is_the_plain_network_and_knows_the_digits(folder, images):
    loaded = selfkd.load(folder.path)
    plain = selfkd.create_backbone("resnet18_cifar", 10, width=8).network
    assert list(loaded.network.state_dict()) == list(plain.state_dict())
    assert not loaded.network.training
    assert loaded.class_names == tuple("0123456789")
    assert loaded.transform(Image.open(images[0])).shape == loaded.input_size == (3, 16, 16)
    predictions = list(predict(loaded, images, top=3))
    right = [each["classes"][0]["label"] == str(load_digits().target[i]) for i, each in enumerate(predictions)]
    assert sum(right) >= 14
    for each in predictions:
        chances = [entry["probability"] for entry in each["classes"]]
        assert len(chances) == 3
        assert chances == sorted(chances, reverse=True)
        assert 0 < sum(chances) <= 1 + 1e-6


def test_16_bits_of_grey_are_predicted_as_8(folder, images):
    with Image.open(images[3]) as image:
        grey = np.asarray(image)
    deep = images[3].with_name("deep.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(deep)
    loaded = selfkd.load(folder.path)
    shallow, same = predict(loaded, [images[3], deep])
    assert same["classes"] == shallow["classes"]
    with Image.open(images[3]) as one, Image.open(deep) as other:
        assert torch.equal(loaded.transform(other), loaded.transform(one))


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_exported_file_is_the_trained_network(folder, which, tmp_path):
    path, difference = export_run(folder.path, which, tmp_path / "out" / "net.safetensors")
    assert difference <= 1e-6
    network = selfkd.create_backbone("resnet18_cifar", 10, width=8).network
    load_network(network, path)
    checkpoint = torch.load(weights_file(folder.checkpoints, which), weights_only=True)["state_dict"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, checkpoint[f"method.backbone.network.{key}"])


def test_an_export_that_differs_fails_loudly_and_leaves_nothing(folder, tmp_path, monkeypatch):
    def spoil(network, path):
        load_network(network, path)
        network.fc.bias.data += 1e-3

    monkeypatch.setattr(network_files, "load_network", spoil)
    with pytest.raises(ParityError, match="differ by 0.001"):
        export_run(folder.path, "last", tmp_path / "out" / "net.safetensors")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "older.safetensors").write_text("somebody's")
    with pytest.raises(ParityError):
        export_run(folder.path, "last", tmp_path / "older.safetensors", overwrite=True)
    assert (tmp_path / "older.safetensors").read_text() == "somebody's"


def test_folders_that_are_no_runs_are_refused(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        selfkd.load(tmp_path)


def flip_a_byte(folder, other):
    content = bytearray(folder.network_file.read_bytes())
    content[-100] ^= 0x7F  # of a weight, which may become NaN
    folder.network_file.write_bytes(content)


def take_another_runs(folder, other):
    shutil.copy(other.network_file, folder.network_file)


def lose(folder, other):
    folder.network_file.unlink()


def cut(folder, other):
    folder.network_file.write_bytes(b"")


def damage_the_checksum(folder, other):
    folder.checksums_file.write_text("{")


def lose_the_checksum(folder, other):
    flip_a_byte(folder, other)
    folder.checksums_file.unlink()


def in_memory(folder):
    selfkd.load(folder.path)


def exported(folder):
    export_run(folder.path, "last")


def evaluated(folder):
    evaluate_run(folder.path, "test", "last", {})


def trained_again(folder):
    run(folder.recipe(), folder.path.parents[1], show_progress=False)


@pytest.mark.parametrize("use", [in_memory, exported, evaluated, trained_again])
@pytest.mark.parametrize("spoil", [flip_a_byte, take_another_runs, lose, cut, damage_the_checksum, lose_the_checksum])
def test_a_network_file_that_is_not_the_runs_is_made_again_from_the_checkpoint(finished, spoil, use, caplog, tmp_path):
    other = RunFolder(shutil.copytree(finished.path, tmp_path / "other"))
    network = selfkd.load(other.path).network
    network.fc.bias.data += 1
    save_network(network, other.network_file, {})
    whole = finished.network_file.read_bytes()
    spoil(finished, other)
    use(finished)
    assert "it is written again from the checkpoint" in caplog.text
    assert finished.network_file.read_bytes() == whole
    assert network_file_fault(finished) is None
    caplog.clear()
    use(finished)
    assert "written again" not in caplog.text


def test_the_network_of_a_run_without_a_whole_checkpoint_comes_from_its_file_alone(finished):
    shutil.rmtree(finished.checkpoints)
    before = selfkd.load(finished.path).network.state_dict()
    path, _ = export_run(finished.path, "last")
    loaded = plain_network(finished.recipe(), 10)
    load_network(loaded, path)
    assert all(torch.equal(value, before[key]) for key, value in loaded.state_dict().items())
    finished.network_file.unlink()
    with pytest.raises(
        CheckpointError, match=r"model.safetensors is missing; it cannot be written again: .*no checkpoint"
    ):
        selfkd.load(finished.path)


@pytest.fixture
def older(finished):
    """A finished run as older versions left it: no checksum of its network, and no names of classes beside its data."""
    finished.checksums_file.unlink()
    write_json(finished.data_file, {"fingerprint": json.loads(finished.data_file.read_text())["fingerprint"]})
    return finished


@pytest.mark.parametrize("use", [in_memory, exported, evaluated, trained_again])
def test_an_older_runs_network_gets_its_checksum(older, use, caplog):
    whole = older.network_file.read_bytes()
    use(older)
    assert "checksums.json is missing; it is written again from the checkpoint" in caplog.text
    assert network_file_fault(older) is None
    assert older.network_file.read_bytes() == whole
    assert selfkd.load(older.path).class_names == tuple("0123456789")


def test_an_older_runs_network_without_a_checkpoint_is_believed_as_long_as_it_loads(older):
    bias = selfkd.load(older.path).network.fc.bias
    older.checksums_file.unlink()
    shutil.rmtree(older.checkpoints)
    for use in (in_memory, exported, trained_again):
        use(older)
    assert torch.equal(selfkd.load(older.path).network.fc.bias, bias)
    older.network_file.write_bytes(older.network_file.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be loaded"):
        selfkd.load(older.path)


@pytest.mark.parametrize("spoil", [lose, lose_the_checksum])
def test_where_the_network_cannot_be_written_again_it_is_used_all_the_same(finished, spoil, caplog):
    spoil(finished, None)
    before = {file: file.read_bytes() for file in finished.path.glob("*.*") if file.is_file()}
    with finished.locked():  # as another process at work would
        for use in (exported, evaluated):
            use(finished)
        loaded = selfkd.load(finished.path)
    assert "the network is used nevertheless" in caplog.text
    assert {file: file.read_bytes() for file in finished.path.glob("*.*") if file.is_file()} == before
    checkpoint = torch.load(weights_file(finished.checkpoints, "last"), weights_only=True)["state_dict"]
    assert torch.equal(loaded.network.fc.bias, checkpoint["method.backbone.network.fc.bias"])


def test_a_damaged_history_blocks_nothing_but_continuing(finished, unfinished):
    for folder in (finished, unfinished):
        (history,) = set(folder.checkpoints.rglob("history.pt")) - set(folder.checkpoints.rglob("epoch-000001/*"))
        history.write_bytes(b"damaged")
        for use in (in_memory, exported, evaluated):
            use(folder)
        export_run(folder.path, "best")
    trained_again(finished)
    finished.scores_file.unlink()
    with pytest.raises(CheckpointError, match="history.pt is damaged"):
        trained_again(finished)


def a_folder_for_a_note(file):
    file.unlink()
    (file / "inside").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [a_folder_for_a_note, lambda file: file.write_text("{")])
def test_a_finished_run_is_used_whatever_became_of_the_note_of_its_data(finished, spoil, caplog):
    scores = evaluate_run(finished.path, "test", "last", {})
    spoil(finished.data_file)
    assert selfkd.load(finished.path).class_names == tuple("0123456789")
    exported(finished)
    assert evaluate_run(finished.path, "test", "last", {}) == scores
    assert "data.json cannot be read" in caplog.text
    assert "so it is not known whether the run was trained on the data that data=digits gives" in caplog.text


@pytest.mark.parametrize("which", ["last", "best"])
def test_an_unfinished_run_is_used_as_it_is_so_far_and_its_epoch_is_said(unfinished, which, caplog):
    file = weights_file(unfinished.checkpoints, which)
    checkpoint = torch.load(file, weights_only=True)
    said = f"2 of 3 epochs are done; the weights after epoch {checkpoint['epoch'] + 1} are used"
    path, _ = export_run(unfinished.path, which)
    assert said in caplog.text
    network = plain_network(unfinished.recipe(), 10)
    load_network(network, path)
    assert torch.equal(network.fc.bias, checkpoint["state_dict"]["method.backbone.network.fc.bias"])
    caplog.clear()
    scores = evaluate_run(unfinished.path, "test", which, {})
    assert said in caplog.text
    row = read_epoch_log(unfinished.metrics_file)[checkpoint["epoch"]]
    assert scores["main"]["top1"]["value"] == pytest.approx(row["test/top1/main"])
    if which == "last":
        caplog.clear()
        assert torch.equal(selfkd.load(unfinished.path).network.fc.bias, network.fc.bias)
        assert said in caplog.text
    assert trained_again(unfinished) is None, "nothing was spoiled"


def test_an_older_unfinished_run_is_evaluated_with_the_classes_of_its_data(unfinished, caplog):
    expected = evaluate_run(unfinished.path, "test", "last", {})
    fingerprint = json.loads(unfinished.data_file.read_text())["fingerprint"]
    unfinished.data_file.write_text(json.dumps({"fingerprint": fingerprint}))
    assert evaluate_run(unfinished.path, "test", "last", {}) == expected
    caplog.clear()
    for use in (in_memory, exported):
        with pytest.raises(RunError, match="does not say yet which classes it has; continue it with the command"):
            use(unfinished)
    assert "are used" not in caplog.text
    unfinished.data_file.write_text('{"class_names": []}')
    with pytest.raises(RunError, match="data.json is damaged: its class_names"):
        evaluated(unfinished)
    assert "are used" not in caplog.text


def test_an_unfinished_run_without_what_is_wanted_says_so(unfinished):
    newest = max(unfinished.checkpoints.glob("epoch-*"))
    sums = json.loads((newest / "checksums.json").read_text())
    del sums["best.ckpt"]
    (newest / "checksums.json").write_text(json.dumps(sums))
    (newest / "best.ckpt").unlink()
    with pytest.raises(RunError, match="holds no best epoch, because no epoch after trainer.best_after_epoch=0 has "):
        export_run(unfinished.path, "best")
    shutil.rmtree(unfinished.checkpoints)
    for use in (in_memory, exported, evaluated):
        with pytest.raises(RunError, match="is not finished and has no checkpoint yet; continue it with the command"):
            use(unfinished)


def test_a_finished_run_is_never_taken_from_an_older_checkpoint(finished):
    (finished.checkpoints / "epoch-000003").rename(finished.checkpoints / "epoch-000002")
    with pytest.raises(CheckpointError, match="finished after 3 epochs, but its newest undamaged .* from epoch 2"):
        evaluated(finished)


def a_device(finished):
    return Path("/dev/null"), "an ordinary file"


def a_folder(finished):
    (finished.path.parent / "x.safetensors").mkdir()
    return finished.path.parent / "x.safetensors", "an ordinary file"


def a_pipe(finished):
    os.mkfifo(finished.path.parent / "x.safetensors")
    return finished.path.parent / "x.safetensors", "an ordinary file"


def another_suffix(finished):
    return finished.path.parent / "x.pth", "a name that ends in .safetensors"


def no_suffix(finished):
    return finished.path.parent / "x", "a name that ends in .safetensors"


def the_recipe(finished):
    return finished.recipe_file, "a name that ends in .safetensors"


def the_network(finished):
    return finished.network_file, "outside of the run folder"


def among_checkpoints(finished):
    return finished.checkpoints / "x.safetensors", "outside of the run folder"


def another_run_by_a_link(finished):
    (finished.path.parent / "link").symlink_to(finished.path)
    return finished.path.parent / "link" / "x.safetensors", "outside of the run folder"


def below_a_file(finished):
    return finished.recipe_file / "x.safetensors", ""


def a_link_to_itself(finished):
    (finished.path.parent / "x.safetensors").symlink_to(finished.path.parent / "x.safetensors")
    return finished.path.parent / "x.safetensors", "a file that can be written"


@pytest.mark.parametrize(
    "place",
    [
        a_device,
        a_folder,
        a_pipe,
        another_suffix,
        no_suffix,
        the_recipe,
        the_network,
        among_checkpoints,
        another_run_by_a_link,
        below_a_file,
        a_link_to_itself,
    ],
)
def test_what_is_no_place_for_an_export_is_refused_and_stays(finished, place):
    output, allowed = place(finished)
    before = {file: file.read_bytes() for file in finished.path.rglob("*") if file.is_file()}
    with pytest.raises(OptionError) as refused:
        export_run(finished.path, "last", output, overwrite=True)
    assert str(refused.value).startswith(f"output={shown(str(output))} is not allowed")
    assert allowed in str(refused.value)
    assert {file: file.read_bytes() for file in finished.path.rglob("*") if file.is_file()} == before


def test_an_export_replaces_a_file_only_when_told(finished, tmp_path):
    for output in (tmp_path / "net.safetensors", finished.path / "export" / "mine.safetensors"):
        export_run(finished.path, "best", output)
        output.write_text("somebody's")
        with pytest.raises(UserError, match=r"^output=.* a file that does not exist yet; --overwrite replaces"):
            export_run(finished.path, "best", output)
        assert output.read_text() == "somebody's"
        export_run(finished.path, "best", output, overwrite=True)
        load_network(plain_network(finished.recipe(), 10), output)


def test_an_export_leaves_what_lies_beside_it(finished, tmp_path):
    output = tmp_path / "out" / "net.safetensors"
    mine = output.with_name("net.safetensors.partial")
    output.parent.mkdir()
    mine.write_text("mine")
    export_run(finished.path, "last", output)
    assert mine.read_text() == "mine"
    assert sorted(output.parent.iterdir()) == [output, mine]
    leftover = finished.path / "export" / "last.safetensors.partial"
    leftover.parent.mkdir()
    leftover.write_text("of a process that was killed")
    export_run(finished.path, "last")
    assert not leftover.exists()


def test_the_command_says_what_it_does_not_replace_with_status_2(finished, tmp_path, capsys):
    for output, said in (
        ("net.pth", "net.pth' is not allowed; --output must be a name that ends in .safetensors"),
        ("net.safetensors", "--output must be a file that does not exist yet; --overwrite replaces this one"),
    ):
        (tmp_path / output).write_text("somebody's")
        assert main(["export", str(finished.path), "--output", str(tmp_path / output)]) == 2
        assert said in capsys.readouterr().err
        assert (tmp_path / output).read_text() == "somebody's"
    assert main(["export", str(finished.path), "--output", str(tmp_path / output), "--overwrite"]) == 0
    assert "its logits equal the trained network's" in capsys.readouterr().out


def test_an_export_to_its_own_place_is_repeatable(finished):
    first, second = (export_run(finished.path, "last")[0] for _ in range(2))
    assert first == second == finished.path / "export" / "last.safetensors"


def test_an_export_to_its_own_place_replaces_nothing_behind_a_link(finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "last.safetensors").write_text("somebody's")
    (finished.path / "export").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="that does not exist yet; --overwrite replaces this one"):
        export_run(finished.path, "last")
    assert (tmp_path / "mine" / "last.safetensors").read_text() == "somebody's"


def test_a_recipe_of_somebodys_own_beside_it_makes_no_run_of_a_folder(finished, tmp_path):
    shutil.copy(finished.recipe_file, tmp_path / "recipe.yaml")
    assert export_run(finished.path, "last", tmp_path / "net.safetensors")[0].is_file()


def started(num_classes: int, *, weights: str | None = None, width: int = 4):
    """A network that begins from the weights in a file."""
    network = selfkd.create_backbone("resnet18_cifar", num_classes, width=width, input_size=16).network
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def test_a_run_that_began_from_a_file_needs_it_no_more(short, tmp_path, caplog, monkeypatch):
    file = tmp_path / "start.pth"
    torch.save(started(10).state_dict(), file)
    options = {"backbone": f"{__name__}:started", "backbone.weights": str(file), "backbone.width": 4, "name": "started"}
    recipe = short("plain", **options, **{"trainer.epochs": 2})
    steps = []

    def stop(self, progress):
        steps.append(progress)
        if progress.epoch == 1 and len(steps) == 2:
            raise KeyboardInterrupt
        Method.begin_epoch(self, progress)

    monkeypatch.setattr(Plain, "begin_epoch", stop)
    with pytest.raises(RunInterruptedError):
        run(recipe, tmp_path / "runs", show_progress=False)
    file.rename(tmp_path / "elsewhere.pth")
    caplog.set_level("INFO", "selfkd")
    folder = run(recipe, tmp_path / "runs", show_progress=False)
    assert f"backbone.weights={file} does not exist; the run's own weights are used" in caplog.text
    checkpoint = torch.load(weights_file(folder.checkpoints, "last"), weights_only=True)["state_dict"]
    loaded = selfkd.load(folder.path, trust_imports=True).network
    assert torch.equal(loaded.fc.weight, checkpoint["method.backbone.network.fc.weight"])
    assert export_run(folder.path, "best", trust_imports=True)[1] <= 1e-6
    assert (
        evaluate_run(folder.path, "test", "last", {}, trust_imports=True) == folder.scores()["last"]["scores"]["test"]
    )
    with pytest.raises(UserError, match="raised FileNotFoundError"):
        run(short("plain", **{**options, "name": "new"}), tmp_path / "runs", show_progress=False)


class Hungry(DTSKD):
    """Needs more memory to evaluate than there is."""

    def predict(self, images):
        torch.empty(1 << 50)


def hungry(num_classes: int):
    """A network that needs more memory than there is."""
    torch.empty(1 << 50)


def test_too_little_memory_is_said_with_advice(finished):
    def name_instead(section, own):
        flat = yaml.safe_load(finished.recipe_file.read_text())
        finished.recipe_file.write_text(yaml.safe_dump({**flat, section: f"{__name__}:{own}"}))

    name_instead("method", "Hungry")
    with pytest.raises(
        MemoryExhaustedError, match=r"loader.evaluation_batch_size=.* needs more memory .* a smaller one might"
    ):
        evaluate_run(finished.path, "test", "last", {}, trust_imports=True)
    flat = yaml.safe_load(finished.recipe_file.read_text())
    finished.recipe_file.write_text(yaml.safe_dump({key: flat[key] for key in flat if not key.startswith("backbone.")}))
    name_instead("backbone", "hungry")
    for use, doing in (
        (lambda: selfkd.load(finished.path, trust_imports=True), "loading the network"),
        (lambda: export_run(finished.path, "last", trust_imports=True), "exporting"),
        (lambda: evaluate_run(finished.path, "test", "last", {}, trust_imports=True), "building the network"),
    ):
        with pytest.raises(MemoryExhaustedError, match=f"{doing} needs more memory than there is"):
            use()
