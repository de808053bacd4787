import json

import pytest

from benchmark_files import load_benchmark

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def benchmark():
    return load_benchmark("loader_paths")


@pytest.mark.slow
def test_a_folder_gives_the_same_from_memory_and_from_disk(benchmark, digits_as_cifar100, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "OVERRIDES", {**benchmark.OVERRIDES, "trainer.epochs": 1, "loader.batch_size": 20})
    monkeypatch.setattr(benchmark, "SEEDS", (0, 1))
    benchmark.write_images(str(digits_as_cifar100), tmp_path / "images")
    results = benchmark.measure(str(digits_as_cifar100), tmp_path / "images", tmp_path / "runs")
    without_times = [
        [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in record["epochs"]]
        for record in results["runs"]
    ]
    parquet, held, read = without_times[:3]
    assert held == read
    assert held != parquet, "another order of the images"
    text = json.dumps(results)
    assert str(tmp_path) not in text
    assert "| folder, read from disk |" in benchmark.page(results)


def test_the_page_in_the_docs_is_made_of_the_results(benchmark):
    results = json.loads(benchmark.RESULTS.read_text())
    assert benchmark.page(results) == benchmark.PAGE.read_text()
    by_path = {
        path: [record["accuracy"] for record in results["runs"] if record["path"] == path] for path in benchmark.PATHS
    }
    assert by_path["folder, in memory"] == by_path["folder, read from disk"]
