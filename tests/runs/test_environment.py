from importlib.metadata import PackageNotFoundError

import pytest
import torch

from selfkd.runs import environment as module


def test_a_source_tree_that_is_not_installed_has_no_version(monkeypatch):
    def version(name):
        if name == "selfkd":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(module, "version", version)
    packages = module.environment(torch.device("cpu"))["packages"]
    assert packages["selfkd"] is None
    assert packages["torch"] == "1.0"


def test_the_memory_allocator_is_recorded(monkeypatch):
    monkeypatch.setattr(module, "allocator_name", lambda: "jemalloc")
    assert module.environment(torch.device("cpu"))["allocator"] == "jemalloc"


@pytest.mark.parametrize(
    ("record", "processor"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7763 \n\nprocessor\t: 1\nmodel name\t: another\n", "AMD EPYC 7763"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "as Python says"),
        (None, "as Python says"),
    ],
)
def test_the_model_of_the_cpu_is_recorded_where_the_system_says_it(tmp_path, monkeypatch, record, processor):
    if record is not None:
        (tmp_path / "cpuinfo").write_text(record)
    monkeypatch.setattr(module, "_CPU_RECORD", tmp_path / "cpuinfo")
    monkeypatch.setattr(module.platform, "processor", lambda: "as Python says")
    assert module.environment()["processor"] == processor
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    assert module.environment()["processor"] == (None if processor == "as Python says" else processor)
