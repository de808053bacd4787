import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from selfkd.errors import StorageError
from selfkd.memories import storages
from selfkd.memories.storages import FileStorage, choose_storage

GB = 10**9
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture
def machine(monkeypatch):
    """`machine(memory, on_gpu)`: how much is free, in GB."""

    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def of(memory, on_gpu=0):
        monkeypatch.setattr(storages, "free_main_memory", lambda: memory * GB)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (on_gpu * GB, 2 * on_gpu * GB))

    return of


@pytest.mark.parametrize(
    ("device", "memory", "on_gpu", "words", "why"),
    [
        (CPU, 2, 0, "in main memory", "at most 50% of the 2.00 GB of free main memory"),
        (CPU, 1.9, 0, "in files in ", "more than 50% of the 1.90 GB of free main memory"),
        (GPU, 2, 4, "on cuda:0", "at most 25% of the 4.00 GB free on cuda:0"),
        (GPU, 2, 3.9, "in main memory", "at most 50% of the 2.00 GB of free main memory"),
        (GPU, 1.9, 3.9, "in files in ", "more than 50% of the 1.90 GB of free main memory"),
    ],
)
def test_auto_takes_the_first_that_has_room(machine, tmp_path, device, memory, on_gpu, words, why):
    machine(memory, on_gpu)
    storage, reason = choose_storage("auto", GB, device, tmp_path)
    assert storage.description.startswith(words)
    assert reason == why


def test_what_is_asked_for_is_taken(machine, tmp_path):
    machine(0)
    for name, words in (
        ("device", "on cuda:0"),
        ("pinned", "in main memory"),
        ("memmap", f"in files in {tmp_path}"),
    ):
        storage, why = choose_storage(name, GB, GPU, tmp_path)
        assert (storage.description, why) == (words, f"history.storage={name}")
    assert choose_storage("device", GB, CPU, None)[0].description == "in main memory"


def test_processes_of_one_machine_share_its_memory(machine, monkeypatch, tmp_path):
    machine(8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_storage("auto", GB, CPU, tmp_path)[1] == "at most 50% of the 2.00 GB of free main memory"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    assert choose_storage("auto", GB, CPU, tmp_path)[0].description.startswith("in files in ")


def test_where_nobody_says_how_much_is_free_main_memory_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(storages, "free_main_memory", lambda: None)
    assert choose_storage("auto", GB, CPU, tmp_path)[0].description == "in main memory"


def test_files_are_mapped_whole_and_have_no_names(tmp_path):
    table = FileStorage(tmp_path / "new").zeros((1000, 3), torch.float16)
    assert (table.shape, table.dtype) == ((1000, 3), torch.float16)
    assert not table.any()
    table[999] = 1
    assert table.sum() == 3
    assert table.untyped_storage().nbytes() == 6000, "so that saving it saves no more"
    assert not list((tmp_path / "new").iterdir())


def test_a_disk_that_is_full_is_an_error_at_the_start(tmp_path, monkeypatch):
    def full(file, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storages, "os", SimpleNamespace(posix_fallocate=full))
    with pytest.raises(StorageError, match=r"cannot hold 2.00 GB .*No space left on device.*history.top_k.*=pinned"):
        FileStorage(tmp_path).zeros((GB,), torch.float16)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_it_really_refuses(tmp_path):
    with pytest.raises(StorageError, match="cannot hold"):
        FileStorage(tmp_path).zeros((2**58,), torch.float16)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file cannot hold"):
        FileStorage(tmp_path / "file").zeros((5,), torch.bool)


def test_a_killed_process_leaves_no_files(tmp_path):
    code = (
        "import os, signal, sys, torch; from pathlib import Path; from selfkd.memories.storages import FileStorage;"
        "table = FileStorage(Path(sys.argv[1])).zeros((1000,), torch.float32).fill_(1);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())
