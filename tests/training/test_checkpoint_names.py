import subprocess
import sys

import pytest

from selfkd.training.checkpoint_names import (
    checkpoint_folder,
    checkpoints_in,
    epochs_in,
    has_checkpoints,
    is_checkpoint_name,
)


@pytest.mark.parametrize("done", [0, 12, 999_999, 1_000_000])
def test_the_name_of_a_checkpoint_gives_its_epochs(tmp_path, done):
    folder = checkpoint_folder(tmp_path, done)
    assert is_checkpoint_name(folder.name)
    assert epochs_in(folder) == done


@pytest.mark.parametrize("name", ["epoch-12", "epoch-000012.partial", "epoch-00001x", "best.ckpt", ""])
def test_other_names_are_no_checkpoints(name):
    assert not is_checkpoint_name(name)


def test_the_newest_checkpoint_comes_first_and_leftovers_do_not_count(tmp_path):
    assert not has_checkpoints(tmp_path / "nowhere")
    for done in (9, 10, 1_000_000):
        checkpoint_folder(tmp_path, done).mkdir()
        (checkpoint_folder(tmp_path, done) / "checksums.json").touch()
    checkpoint_folder(tmp_path, 11).mkdir()  # its removal was interrupted
    (tmp_path / "epoch-000012.partial").mkdir()
    assert [epochs_in(path) for path in checkpoints_in(tmp_path)] == [1_000_000, 10, 9]
    assert has_checkpoints(tmp_path)


def test_torch_is_not_imported():
    code = "import sys, selfkd.training.checkpoint_names; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
