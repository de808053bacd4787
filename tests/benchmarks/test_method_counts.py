import dataclasses
import json

import pytest

from selfkd.methods import METHODS

# Multiply-adds that training adds to those of plain training, in percent (specification, section F)
ADDED_PERCENT = {
    "byot": 7.2,
    "ecsd": 4.9,  # 4.8 without the adapters, which only the loss uses
    "beed": 54,
    "dks": 124,
    "frskd": 71,
    "one": 48,
    "okddip": 72.5,
    "dcm": 348,
    "ahbf": 133,
    "kd": 452,
    "dml": 100,
}


@pytest.fixture
def kept(benchmark):
    rows = benchmark.REPORT.read()["methods"]
    return {name: {key: value for key, value in row.items() if key != "environment"} for name, row in rows.items()}


def counted(benchmark, name):
    return json.loads(json.dumps(benchmark.counted(name)))


def test_the_kept_counts_are_of_all_methods_and_those_of_the_specification(kept):
    assert list(kept) == list(METHODS), "run: python benchmarks/method_counts.py"
    plain = kept["plain"]
    assert (plain["parameters"], plain["multiply_adds"]) == (11_220_132, 555_468_800)
    for name, percent in ADDED_PERCENT.items():
        added = 100 * (kept[name]["multiply_adds"] / plain["multiply_adds"] - 1)
        assert added == pytest.approx(percent, abs=0.05 if percent < 10 else 0.5), name


@pytest.mark.parametrize("name", ["plain", "dtskd", "dml"])
def test_counting_again_gives_the_kept_counts(benchmark, kept, name):
    assert counted(benchmark, name) == kept[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_counting_again_gives_the_kept_counts_of_all_methods(benchmark, kept, name):
    assert counted(benchmark, name) == kept[name]


def test_counts_of_named_methods_leave_the_others(benchmark, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "REPORT", dataclasses.replace(benchmark.REPORT, root=tmp_path))
    written = []
    monkeypatch.setattr(benchmark.method_pages, "write", lambda: written.append(True))
    earlier = {**kept["dtskd"], "environment": {"device": "made up"}}
    benchmark.REPORT.write({"methods": {"dtskd": earlier}})
    assert benchmark.main(["--methods", "plain"]) == 0
    rows = benchmark.REPORT.read()["methods"]
    assert list(rows) == ["plain", "dtskd"]
    assert rows["dtskd"] == earlier
    assert rows["plain"].pop("environment")["device"] == "cpu"
    assert rows["plain"] == kept["plain"]
    assert written, "the pages"
