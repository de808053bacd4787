import os
import shutil
from pathlib import Path

import pytest
import torch

import selfkd
from selfkd.cli import main
from selfkd.errors import (
    OptionError,
    ParityError,
    UserError,
    shown,
)
from selfkd.export import network_files
from selfkd.export.network_files import load_network
from selfkd.runs.export import export_run
from selfkd.runs.networks import plain_network
from selfkd.training.checkpoint_files import weights_file


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_exported_file_is_the_trained_network(finished, which, tmp_path):
    path, difference = export_run(finished.path, which, tmp_path / "out" / "net.safetensors")
    assert difference <= 1e-6
    network = selfkd.create_backbone("resnet18_cifar", 10, width=4).network
    load_network(network, path)
    checkpoint = torch.load(weights_file(finished.checkpoints, which), weights_only=True)["state_dict"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, checkpoint[f"method.backbone.network.{key}"])


def test_an_export_that_differs_fails_loudly_and_leaves_nothing(finished, tmp_path, monkeypatch):
    def spoil(network, path):
        load_network(network, path)
        network.fc.bias.data += 1e-3

    monkeypatch.setattr(network_files, "load_network", spoil)
    with pytest.raises(ParityError, match="differ by 0.001"):
        export_run(finished.path, "last", tmp_path / "out" / "net.safetensors")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "older.safetensors").write_text("somebody's")
    with pytest.raises(ParityError):
        export_run(finished.path, "last", tmp_path / "older.safetensors", overwrite=True)
    assert (tmp_path / "older.safetensors").read_text() == "somebody's"


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
    return finished.network_file, "it lies in the run folder"


def among_checkpoints(finished):
    return finished.checkpoints / "x.safetensors", "it lies in the run folder"


def another_run_by_a_link(finished):
    (finished.path.parent / "link").symlink_to(finished.path)
    return finished.path.parent / "link" / "x.safetensors", "it lies in the run folder"


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
def test_an_export_to_a_wrong_place_is_refused_and_changes_nothing(finished, place):
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


def test_the_command_refuses_to_replace_a_file_with_status_2(finished, tmp_path, capsys):
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


def test_a_copied_recipe_does_not_make_a_folder_a_run(finished, tmp_path):
    shutil.copy(finished.recipe_file, tmp_path / "recipe.yaml")
    assert export_run(finished.path, "last", tmp_path / "net.safetensors")[0].is_file()
