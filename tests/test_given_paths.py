"""Paths that a user gives."""

from pathlib import Path

from selfkd.given_paths import expanded, is_folder, is_there


def test_the_home_folder_is_put_in_and_an_unknown_user_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/runs") == tmp_path / "runs"
    assert expanded("~no-such-user/runs") == Path("~no-such-user/runs")


def test_a_name_that_is_too_long_is_no_folder_and_no_file():
    assert not is_folder(Path("x" * 300))
    assert not is_there(Path("x" * 300))
