from importlib.metadata import PackageNotFoundError

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
