import pytest

from selfkd.atomic_files import folder_written_whole, written_whole
from selfkd.errors import StorageError


def test_what_was_there_stays_until_the_new_is_whole_and_goes_then(tmp_path):
    for old in ("file", "folder"):
        path = tmp_path / old
        if old == "file":
            path.write_text("old")
        else:
            (path / "inside").mkdir(parents=True)
        with folder_written_whole(path) as partial:
            assert path.exists()
            (partial / "new").touch()
        assert [file.name for file in path.iterdir()] == ["new"]


def test_among_others_files_nothing_else_is_replaced(tmp_path):
    others = {tmp_path / "file.partial": "mine", tmp_path / "file": "old"}
    for file, content in others.items():
        file.write_text(content)

    def broken_off():
        with written_whole(tmp_path / "file", among_others=True) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert {file: file.read_text() for file in tmp_path.iterdir()} == others
    with written_whole(tmp_path / "file", among_others=True) as partial:
        partial.write_text("new")
    assert {file: file.read_text() for file in tmp_path.iterdir()} == {**others, tmp_path / "file": "new"}
    (tmp_path / "ours").write_text("as any file")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "ours").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RuntimeError])
def test_nothing_half_written_is_left_whatever_stops_it(tmp_path, error):
    (tmp_path / "file").write_text("old")

    def write():
        with written_whole(tmp_path / "file") as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_half_written_folder_is_left_whatever_stops_it(tmp_path, error):
    (tmp_path / "folder").mkdir()

    def write():
        with folder_written_whole(tmp_path / "folder") as partial:
            (partial / "half").touch()
            raise error

    with pytest.raises(error):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_folder_in_the_way_is_said_and_left(tmp_path):
    for name in ("file", "other.partial"):
        (tmp_path / name / "inside").mkdir(parents=True)
        with (
            pytest.raises(StorageError, match="cannot be written"),
            written_whole(tmp_path / name.removesuffix(".partial")) as partial,
        ):
            partial.write_text("new")
        assert (tmp_path / name / "inside").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other.partial"]
