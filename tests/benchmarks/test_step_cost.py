import json

import pytest

from benchmark_files import load_benchmark


@pytest.fixture
def benchmark():
    return load_benchmark("step_cost")


def test_it_measures_every_variant_and_the_page_says_so(benchmark):
    names = list(benchmark.VARIANTS)
    record = benchmark.measure(names, "32", "cpu", batch_size=4, width=8, rounds=2, memory=False)
    assert list(record["rows"]) == names
    assert record["rows"]["plain"]["relative"] == 1
    assert all(len(row["rounds"]) == 2 and min(row["rounds"]) > 0 for row in record["rows"].values())
    page = benchmark.page([record])
    for name in names:
        assert f"| {name} " in page
    assert benchmark.key_of(json.loads(json.dumps(record))) == benchmark.key_of(record)


def test_the_command_adds_a_record_and_replaces_it(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results" / "step_cost.json")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "step-cost.md")
    small = ["--batch", "4", "--width", "8", "--rounds", "1", "--device", "cpu", "--variants", "teskd"]
    for precision in ("32", "32", "bf16-mixed"):
        assert benchmark.main([*small, "--precision", precision]) == 0
    records = json.loads(benchmark.RESULTS.read_text())
    assert [record["precision"] for record in records] == ["32", "bf16-mixed"]
    assert list(records[0]["rows"]) == ["plain", "teskd"]
    assert records[0]["rows"]["teskd"]["peak_memory_mb"] > 0
    assert benchmark.main(["--page"]) == 0
    assert benchmark.PAGE.read_text() == benchmark.page(records)


def test_memory_is_that_of_the_steps_alone(benchmark):
    small = benchmark.memory_of("plain", 64, "32", "cpu", 16)
    large = benchmark.memory_of("teskd, literal", 64, "32", "cpu", 16)
    assert 1 < small < large


def test_the_command_measures_writes_and_merges(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "step_cost.json")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "step-cost.md")
    monkeypatch.setattr(benchmark, "memory_of", lambda *_: 1.0)
    size = ["--batch", "4", "--width", "8", "--rounds", "2", "--threads", "1", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["step_cost.py", *size, "--variants", "ps_kd"])
    assert benchmark.main() == 0
    (first, second) = json.loads(benchmark.RESULTS.read_text())
    assert (first["precision"], second["precision"]) == ("32", "bf16-mixed")
    assert list(first["rows"]) == ["plain", "ps_kd"]
    fetched = tmp_path / "fetched.json"
    fetched.write_text(json.dumps([{**first, "device": "cuda"}, {**second, "huge_pages": None}]))
    monkeypatch.setattr("sys.argv", ["step_cost.py", "--merge", str(fetched)])
    assert benchmark.main() == 0
    records = json.loads(benchmark.RESULTS.read_text())
    assert [record["device"] for record in records] == ["cpu", "cuda", "cpu"]
    assert records[2]["huge_pages"] is None, "the newer of two"
    assert "## cuda, 32, eager, batch 4" in benchmark.PAGE.read_text()


def test_the_page_in_the_docs_is_made_of_the_results(benchmark):
    if not benchmark.RESULTS.exists():
        pytest.skip("not measured yet")
    assert benchmark.page(json.loads(benchmark.RESULTS.read_text())) == benchmark.PAGE.read_text()
