import pytest

from image_sets import write_folder, write_parquet
from selfkd.cli import main
from selfkd.data.sources.digits import Digits
from selfkd.data.sources.folder import Folder
from selfkd.data.sources.imagenet import ImageNet
from selfkd.data.sources.parquet import Parquet
from selfkd.errors import MemoryExhaustedError, OptionError
from selfkd.runs import checkup, networks


@pytest.fixture
def one_gigabyte(monkeypatch):
    monkeypatch.setattr("selfkd.data.reading.memory_checks.free_main_memory", lambda: 10**9)


@pytest.mark.parametrize(
    ("source", "option"),
    [
        (Digits(image_size=10_000_000), "data.image_size=10000000"),
        (ImageNet(root="anywhere", image_size=10_000_000, resize=10_000_000), "data.image_size=10000000"),
        (ImageNet(root="anywhere", resize=10_000_000), "data.resize=10000000"),
        (Folder(root="anywhere", image_size=10_000_000), "data.image_size=10000000"),
        (Parquet(root="anywhere", image_size=10_000_000, memory_gb=1e12), "data.image_size=10000000"),
    ],
)
def test_images_of_which_none_fits_are_refused_before_anything_is_read(source, option):
    with pytest.raises(OptionError, match=f"{option}.* but only .* GB are free; choose a smaller value"):
        source.load(seed=0)


def test_all_images_that_are_held_must_fit(one_gigabyte, tmp_path):
    with pytest.raises(OptionError, match="data.image_size=400 .*; to hold 1797 images of that side takes 1.7 GB, but"):
        Digits(image_size=400).load(seed=0)
    assert Digits(image_size=64).load(seed=0)
    root = write_folder(tmp_path / "set", 200)
    with pytest.raises(OptionError, match=r"data.memory_gb=4.0 .* to hold the decoded images takes 3.6 GB"):
        Folder(root=str(root), image_size=1500).load(seed=0)
    assert Folder(root=str(root), image_size=1500, memory_gb=0.5).load(seed=0), "read from disk while training"
    write_parquet(tmp_path / "train.parquet", range(200))
    with pytest.raises(OptionError, match="data.image_size=1500 .* to hold the 200 decoded images takes 1.4 GB"):
        Parquet(root=str(tmp_path), image_size=1500).load(seed=0)


@pytest.mark.parametrize("arguments", [["train"], ["check", "digits"]])
def test_the_command_ends_with_2_and_names_the_option(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "data.image_size=1000000"]) == 2
    assert "data.image_size=1000000 is not allowed; " in capsys.readouterr().err


def test_a_network_in_which_no_image_fits_names_the_size(monkeypatch):
    def exhausted(network, input_size):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(networks, "as_staged", exhausted)
    with pytest.raises(OptionError, match="data.image_size=9000 .* one image of 9000x9000 pixels needs more"):
        networks.staged_at(None, (3, 9000, 9000))


def test_too_little_memory_to_check_is_a_message(monkeypatch, tmp_path):
    root = write_folder(tmp_path / "set", 12)

    def exhausted(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("selfkd.data.doctor.opened_images.to_rgb", exhausted)
        report = checkup.check(str(root), {"data.image_size": "32"})
        assert len(report.errors[0].where) == 36
        assert report.errors[0].where[0].endswith("decoded, it needs more memory than there is")
    monkeypatch.setattr(checkup, "check_source", exhausted)
    with pytest.raises(
        MemoryExhaustedError, match="checking this data set needs more memory .*; --quick opens no image"
    ):
        checkup.check(str(root), {"data.image_size": "32"})
