import json

import pytest

from benchmark_files import load_benchmark
from image_sets import save_digit


@pytest.fixture
def benchmark():
    return load_benchmark("loader_speed")


def test_it_measures_every_variant_and_the_page_says_so(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results" / "loader_speed.json")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "loader-speed.md")
    for position in range(3):
        save_digit(tmp_path / "photographs" / f"{position}.jpg", position)
    small = ["--rounds", "1", "--resident", "8", "--per-image", "8", "--files", "2"]
    assert benchmark.main([str(tmp_path / "photographs"), *small]) == 0
    results = json.loads(benchmark.RESULTS.read_text())
    assert results["files"]["count"] == 2
    assert results["small"][benchmark.PER_IMAGE]["relative"] == 1
    page = benchmark.PAGE.read_text()
    for name in [*results["small"], *results["large"]]:
        assert f"| {name} " in page
    assert benchmark.main(["--page"]) == 0
    assert benchmark.PAGE.read_text() == page


def test_the_page_in_the_docs_is_made_of_the_results(benchmark):
    assert benchmark.page(json.loads(benchmark.RESULTS.read_text())) == benchmark.PAGE.read_text()
