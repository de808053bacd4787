"""A run's network, however its folder was damaged, and what is used of an unfinished run."""

import json
import shutil

import pytest
import torch
import yaml

import selfkd
from accuracies import accuracies
from selfkd.errors import (
    CheckpointError,
    MemoryExhaustedError,
    RunError,
)
from selfkd.export.network_files import load_network, save_network
from selfkd.methods.dtskd import DTSKD
from selfkd.runs.evaluate import evaluate
from selfkd.runs.export import export_run
from selfkd.runs.network_file import network_file_fault
from selfkd.runs.networks import plain_network
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_files import weights_file
from selfkd.training.epoch_log import read_epoch_log


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
    evaluate(folder.path)


def trained_again(folder):
    run(folder.recipe(), folder.path.parents[1], show_progress=False)


@pytest.mark.parametrize("use", [in_memory, exported, evaluated, trained_again])
@pytest.mark.parametrize("spoil", [flip_a_byte, take_another_runs, lose, cut, damage_the_checksum, lose_the_checksum])
def test_a_lost_or_damaged_network_file_is_written_again_from_the_checkpoint(finished, spoil, use, caplog, tmp_path):
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


def test_an_older_runs_network_file_without_checksum_and_checkpoint_is_used_if_it_loads(older):
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
def test_a_network_that_cannot_be_written_again_is_used_nevertheless(finished, spoil, caplog):
    spoil(finished, None)
    before = {file: file.read_bytes() for file in finished.path.glob("*.*") if file.is_file()}
    with finished.locked():  # as another process at work would
        for use in (exported, evaluated):
            use(finished)
        loaded = selfkd.load(finished.path)
    assert "the network is used anyway" in caplog.text
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


def replace_by_a_folder(file):
    file.unlink()
    (file / "inside").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [replace_by_a_folder, lambda file: file.write_text("{")])
def test_a_finished_run_is_used_without_its_data_record(finished, spoil, caplog):
    scores = accuracies(finished.path)
    spoil(finished.data_file)
    assert selfkd.load(finished.path).class_names == tuple("0123456789")
    exported(finished)
    assert accuracies(finished.path) == scores
    assert "data.json cannot be read" in caplog.text
    assert "so it is not known whether the run was trained on the data that data=digits gives" in caplog.text


@pytest.mark.parametrize("which", ["last", "best"])
def test_an_unfinished_run_is_used_and_the_log_says_its_epoch(unfinished, which, caplog):
    file = weights_file(unfinished.checkpoints, which)
    checkpoint = torch.load(file, weights_only=True)
    said = f"2 of 3 epochs are done; the weights after epoch {checkpoint['epoch'] + 1} are used"
    path, _ = export_run(unfinished.path, which)
    assert said in caplog.text
    network = plain_network(unfinished.recipe(), 10)
    load_network(network, path)
    assert torch.equal(network.fc.bias, checkpoint["state_dict"]["method.backbone.network.fc.bias"])
    caplog.clear()
    scores = accuracies(unfinished.path, "test", which)
    assert said in caplog.text
    row = read_epoch_log(unfinished.metrics_file)[checkpoint["epoch"]]
    assert scores["main"]["top1"]["value"] == pytest.approx(row["test/top1/main"])
    if which == "last":
        caplog.clear()
        assert torch.equal(selfkd.load(unfinished.path).network.fc.bias, network.fc.bias)
        assert said in caplog.text
    assert trained_again(unfinished) is None, "nothing was spoiled"


def test_an_older_unfinished_run_is_evaluated_with_the_classes_of_its_data(unfinished, caplog):
    expected = accuracies(unfinished.path)
    fingerprint = json.loads(unfinished.data_file.read_text())["fingerprint"]
    unfinished.data_file.write_text(json.dumps({"fingerprint": fingerprint}))
    assert accuracies(unfinished.path) == expected
    caplog.clear()
    for use in (in_memory, exported):
        with pytest.raises(RunError, match="does not say yet which classes it has; an older version of selfkd left it"):
            use(unfinished)
    assert "are used" not in caplog.text
    unfinished.data_file.write_text('{"class_names": []}')
    with pytest.raises(RunError, match="data.json is damaged: its class_names"):
        evaluated(unfinished)
    assert "are used" not in caplog.text


def test_an_unfinished_run_without_such_weights_is_refused(unfinished):
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


class Hungry(DTSKD):
    """Needs more memory to evaluate than there is."""

    def predict(self, images):
        torch.empty(1 << 50)


def hungry(num_classes: int):
    """A network that needs more memory than there is."""
    torch.empty(1 << 50)


def test_too_little_memory_ends_in_an_error_with_advice(finished):
    def name_instead(section, own):
        flat = yaml.safe_load(finished.recipe_file.read_text())
        finished.recipe_file.write_text(yaml.safe_dump({**flat, section: f"{__name__}:{own}"}))

    name_instead("method", "Hungry")
    with pytest.raises(
        MemoryExhaustedError, match=r"loader.evaluation_batch_size=.* needs more memory .* a smaller one might"
    ):
        evaluate(finished.path, trust_imports=True)
    flat = yaml.safe_load(finished.recipe_file.read_text())
    finished.recipe_file.write_text(yaml.safe_dump({key: flat[key] for key in flat if not key.startswith("backbone.")}))
    name_instead("backbone", "hungry")
    for use, doing in (
        (lambda: selfkd.load(finished.path, trust_imports=True), "loading the network"),
        (lambda: export_run(finished.path, "last", trust_imports=True), "exporting"),
        (lambda: evaluate(finished.path, trust_imports=True), "building the network"),
    ):
        with pytest.raises(MemoryExhaustedError, match=f"{doing} needs more memory than there is"):
            use()
