import pytest

from selfkd.training.threads import threads_restored

ROWS = [
    {"case": [32, 64, 64], "multiply_adds": 35_550_000_000, "seconds": {"1": 0.9, "2": 0.5}},
    {"case": [16, 16, 20], "multiply_adds": 180_000_000, "seconds": {"1": 0.01, "2": 0.04}},
]


@pytest.fixture
def results(benchmark):
    names = [f"{policy}, {place}" for policy in benchmark.POLICIES for place in benchmark.PLACES]
    return {
        "environment": {"packages": {"torch": "0.0"}},
        "cores": 2,
        "load": 0.1,
        "steps": dict.fromkeys(names, ROWS),
        "command_settings": {"epochs": 30, "default_epochs": 200, "threads_before": 2},
        "command": {"now, quiet": 30.2, "before, quiet": 40.4, "now, busy": 35.0, "before, busy": None},
    }


def test_steps_are_timed_by_turns_with_each_number_of_threads(benchmark):
    with threads_restored():
        (row,) = benchmark.time_steps(benchmark.CASES[:1], [1, 2], rounds=1)
    assert row["case"] == [16, 16, 20]
    assert row["multiply_adds"] == pytest.approx(0.175e9, rel=0.01)
    assert set(row["seconds"]) == {"1", "2"}
    assert min(row["seconds"].values()) > 0


def test_the_section_says_what_was_measured_and_what_the_rule_takes(elsewhere, results):
    elsewhere.REPORT.write(results)
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in elsewhere.REPORT.page_file.read_text().splitlines()
    ]
    small = lines.index(["16x16, width 16, batch 20", "0.18", "10", *["0.25"] * 4, "1"])
    assert lines[small + 1] == ["32x32, width 64, batch 64", "35.55", "900", *["1.80"] * 4, "2"], "less work first"
    assert ["before", "40", "more than 300"] in lines
    assert ["now", "30", "35"] in lines


@pytest.mark.slow
def test_it_measures_in_processes_of_its_own(elsewhere, monkeypatch):
    monkeypatch.setattr(elsewhere, "COMMAND", ("train", "demo/digits/resnet18/plain", "backbone.width=8"))
    monkeypatch.setattr(elsewhere, "_LIMIT_SECONDS", 100)  # a machine that does much else leaves some unmeasured
    assert elsewhere.main(["--rounds", "1", "--cases", "1", "--epochs", "1"]) == 0
    results = elsewhere.REPORT.read()
    assert len(results["steps"]) == len(results["command"]) == 4
    assert all(seconds is None or seconds > 0 for seconds in results["command"].values())
    assert elsewhere.section(results) in elsewhere.REPORT.page_file.read_text()
