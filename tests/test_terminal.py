import io
import logging
import sys

import pytest

from selfkd.errors import StorageError
from selfkd.terminal import OutputClosedError, as_message, configure_logging, printable, safe_output, write_exactly

HOSTILE = {
    "a colour": ("\x1b[31mred", r"\x1b[31mred"),
    "a line": ("a\nselfkd: done", r"a\nselfkd: done"),
    "a return": ("bad\rgood", r"bad\rgood"),
    "an 8-bit control code": ("\x9b2J", r"\x9b2J"),
    "a turn of direction": ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
    "a line separator": ("a\u2028b", r"a\u2028b"),
    "half a surrogate pair": ("a\udcff", r"a\udcff"),
    "a null": ("a\0b", r"a\x00b"),
}
HARMLESS = ("Möwe", "漢字", "кошка", "🐱", "C:\\images", "90 % ± 2")


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_visible_character_is_escaped(case):
    name, shown = HOSTILE[case]
    assert printable(name) == shown


@pytest.mark.parametrize("name", HARMLESS)
def test_names_in_all_scripts_stay(name):
    assert printable(name) == name


def test_a_message_has_at_most_three_lines_and_none_that_looks_like_another():
    assert as_message("one") == "one"
    assert as_message("one\nselfkd: two\nthree") == "one\n  selfkd: two\n  three"
    assert as_message("1\n2\n3\n4\n5") == "1\n  2\n  3 ..."
    assert as_message("a\r\nb\x1b[2J") == "a\\r\n  b\\x1b[2J"
    assert (
        as_message("Error(s):\n\tMissing key(s).\n\t\tUnexpected")
        == "Error(s):\n      Missing key(s).\n          Unexpected"
    )
    assert len(as_message("9" * 100_000)) < 1100


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_streams_escape_all_but_the_layout(monkeypatch):
    streams = {name: io.StringIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with safe_output():
        sys.stdout.write("a\tb\n\x1b[31mred\n")
        sys.stderr.write("bar\r\x07")
        sys.stderr.writelines(["\x9b", "2J"])
    assert streams["stdout"].getvalue() == "a\tb\n\\x1b[31mred\n"
    assert streams["stderr"].getvalue() == "bar\r\\x07\\x9b2J"
    assert sys.stdout is streams["stdout"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_a_program_reads_is_exact_but_on_a_terminal(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    with safe_output():
        write_exactly("a\u3000b\x1b\n")
    assert stream.getvalue() == ("a\\u3000b\\x1b\n" if stream.isatty() else "a\u3000b\x1b\n")


def test_only_standard_output_must_be_written(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    monkeypatch.setattr(sys, "stderr", Broken(OSError(28, "No space left on device")))
    with safe_output():
        sys.stderr.write("nobody hears it")
        with pytest.raises(StorageError, match="the standard output cannot be written: No space left on device"):
            sys.stdout.write("lost")
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))
    with safe_output(), pytest.raises(OutputClosedError):
        sys.stdout.write("seen enough")


def test_a_log_record_is_one_message(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level, own_level = root.level, logging.getLogger("selfkd").level
    try:
        configure_logging(logging.INFO)
        logging.getLogger("selfkd").info("%s: 3 images", "train\nselfkd: all is well\x1b[2J")
        logging.getLogger("others").info("not shown")
    finally:
        root.setLevel(level)
        logging.getLogger("selfkd").setLevel(own_level)
    assert stream.getvalue() == "train\n  selfkd: all is well\\x1b[2J: 3 images\n"
