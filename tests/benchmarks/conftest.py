"""The benchmark that a test file is named after, and places for what it writes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_files import load_benchmark


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> ModuleType:
    """The script of `test_<name>.py`; `test_gpu_<name>.py` tests the one in the folder `gpu`."""
    return load_benchmark(request.module.__name__.removeprefix("test_").replace("gpu_", "gpu/", 1))


@pytest.fixture
def elsewhere(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which writes its results and its page into a temporary folder."""
    (tmp_path / "docs").mkdir()
    shutil.copy(benchmark.REPORT.page_file, tmp_path / "docs")
    monkeypatch.setattr(benchmark, "REPORT", dataclasses.replace(benchmark.REPORT, root=tmp_path))
    return benchmark
