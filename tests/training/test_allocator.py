import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from selfkd.training import allocator
from selfkd.training.allocator import jemalloc_advice

LARGE, SMALL = 64 << 20, 1 << 20
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux's libraries")


def in_a_process(library=None):
    """What a process that has loaded a library first says of its memory."""
    code = "from selfkd.training import allocator as a; print(a.allocator_name(), a.jemalloc_advice(0), sep='; ')"
    environment = {**os.environ, "LD_PRELOAD": str(library or "")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_loaded_allocator_is_named(tmp_path):
    # Any real library will do under its name: which files are loaded is what is looked at.
    loaded = re.search(r"/\S+/libm[.-]\S*", Path("/proc/self/maps").read_text())[0]
    for file, name in (("libjemalloc.so.2", "jemalloc"), ("libtcmalloc_minimal.so.4", "tcmalloc")):
        shutil.copy(loaded, tmp_path / file)
        assert in_a_process(tmp_path / file) == f"{name}; memory allocator: {name}"
    (tmp_path / "libjemalloc.so.d").mkdir()
    shutil.copy(loaded, tmp_path / "libjemalloc.so.d" / "libother.so")
    assert in_a_process(tmp_path / "libjemalloc.so.d" / "libother.so") == in_a_process(), "a folder's name is none"


def test_jemalloc_is_offered_where_it_is_installed_and_tensors_are_large(monkeypatch):
    monkeypatch.setattr(allocator, "allocator_name", lambda: "glibc")
    monkeypatch.setattr(ctypes.util, "find_library", {"jemalloc": "libjemalloc.so.2"}.get)
    said = jemalloc_advice(LARGE)
    assert "libjemalloc.so.2 is installed" in said
    assert "LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=oversize_threshold:1," in said
    assert jemalloc_advice(SMALL) is None
    monkeypatch.setattr(ctypes.util, "find_library", {}.get)
    assert jemalloc_advice(LARGE) is None
