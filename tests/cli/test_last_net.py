"""Errors that nobody foresaw, and streams and folders that are not as they should be."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from selfkd import api
from selfkd.cli import main


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def failing(monkeypatch):
    def fail_with(error):
        def entries():
            raise error

        monkeypatch.setattr(api, "list_datasets", entries)

    return fail_with


class SpeechlessError(Exception):
    """Fails to say what is wrong."""

    def __str__(self):
        raise ValueError


def endless():
    return endless()


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (MemoryError(), "MemoryError"),
        (MemoryError("of 8 GB"), "MemoryError: of 8 GB"),
        (ImportError("x.so: failed to map segment"), "ImportError: x.so: failed to map segment"),
    ],
)
def test_too_little_memory_is_said_wherever_it_runs_out(failing, temporary, capsys, error, named):
    failing(error)
    assert main(["list", "datasets"]) == 1
    assert capsys.readouterr().err == f"selfkd: there is too little memory for this ({named})\n"
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (SystemExit(3), "SystemExit: 3"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth exceeded"),
        (ValueError("a\n\nmore\nselfkd: done\x1b[2J" + "x" * 5000), r"ValueError: a ... selfkd: done\x1b[2Jxxx"),
        (KeyError, "KeyError;"),
        (SpeechlessError(), "SpeechlessError: the error has no readable message"),
        (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError: [Errno 32] Broken pipe"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_that_nobody_foresaw_is_one_line_and_a_file_with_its_traceback(
    failing, temporary, capsys, error, named
):
    failing(error)
    assert main(["list", "datasets"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"selfkd: unforeseen error, please report it: {named}")
    assert said.count("\n") == 1
    assert len(said) < 600
    assert "Traceback" not in said
    (file,) = temporary.iterdir()
    assert str(file) in said
    kept = file.read_text()
    assert kept.startswith("selfkd list datasets\nPython 3.")
    assert "in entries" in kept
    assert file.stat().st_mode & 0o077 == 0, "its owner's alone"
    assert main(["list", "datasets"]) == 1
    assert len(list(temporary.iterdir())) == 2, "no file is overwritten"


def test_an_endless_recursion_is_kept_too(monkeypatch, temporary, capsys):
    monkeypatch.setattr(api, "list_datasets", endless)
    assert main(["list", "datasets"]) == 1
    assert "RecursionError" in capsys.readouterr().err
    (file,) = temporary.iterdir()
    assert "in endless" in file.read_text()


def test_where_the_details_cannot_be_written_that_is_said(failing, temporary, capsys):
    temporary.rmdir()
    failing(KeyError("x"))
    assert main(["list", "datasets"]) == 1
    said = capsys.readouterr().err
    assert "KeyError: 'x'; the details could not be written (FileNotFoundError); --debug shows them" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["--debug", "list", "datasets"], ["list", "datasets", "--debug"]])
def test_debug_shows_the_traceback_before_and_after_the_verb(failing, temporary, capsys, arguments):
    failing(KeyError("x"))
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert "in entries" in said
    assert said.splitlines()[-1].startswith("selfkd: unforeseen error")


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_every_verb_that_is_told_to_stop_says_so(number, status):
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
from selfkd import api
from selfkd.cli import main
api.list_datasets = lambda: signal.raise_signal(signal.{number})
sys.exit(main(["list", "datasets"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "selfkd: interrupted\n")


def test_ctrl_c_while_the_command_is_imported_says_so():
    code = """
import signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored

class Stopping:
    def find_spec(self, name, path, target=None):
        if name.startswith("selfkd.") and name != "selfkd.cli":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Stopping())
from selfkd.cli import main
assert "argparse" not in sys.modules
sys.exit(main(["list", "datasets"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "selfkd: interrupted\n")


def shell(line, folder):
    """A command line as a shell runs it."""
    return subprocess.run(
        ["sh", "-c", line.replace("selfkd ", f"'{sys.executable}' -m selfkd ")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", ["list methods", "list recipes --json", "--help", "--version", "train --help"])
def test_a_full_standard_output_is_said(arguments, tmp_path):
    done = shell(f"selfkd {arguments} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "selfkd: the standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_output_is_read_by_nobody(closed, tmp_path):
    done = shell(f"selfkd list methods {closed}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_keeps_its_status_where_nothing_can_be_said(tmp_path):
    assert shell("selfkd check nowhere --quick x >&- 2>&-", tmp_path).returncode == 2
    assert shell("selfkd trian 2> /dev/full", tmp_path).returncode == 2


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    done = shell("{ selfkd list recipes; echo $? >&2; } | true", tmp_path)
    assert done.stderr == "0\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_standard_output_that_lacks_characters_gets_them_escaped(monkeypatch, encoding):
    """As PYTHONIOENCODING=ascii makes it."""
    monkeypatch.setattr(api, "list_recipes", lambda: {"m\u00f6we": "\u6f22 \udcff"})
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["list", "recipes"]) == 0
    written = stream.buffer.getvalue().decode(encoding)
    shown = {"ascii": "m\\xf6we  \\u6f22", "latin-1": "m\u00f6we  \\u6f22", "utf-8": "m\u00f6we  \u6f22"}[encoding]
    assert written == f"{shown} \\udcff\n"


def test_a_working_folder_that_was_deleted_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    done = shell("cd gone && rmdir ../gone && selfkd list methods", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "selfkd: the current folder is gone (No such file or directory); change to another one\n"


def test_what_yaml_says_in_many_lines_is_one(tmp_path):
    (tmp_path / "recipe.yaml").write_text("method: [\n" * 3)
    done = shell("selfkd train recipe.yaml", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("selfkd: recipe.yaml cannot be read as a recipe: line ")
