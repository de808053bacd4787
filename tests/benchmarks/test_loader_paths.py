import json

import pytest

# Python 3.12 and later warn when torch forks the workers of a loader.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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


def test_in_the_results_a_folder_gives_the_same_from_memory_and_from_disk(benchmark):
    runs = benchmark.REPORT.read()["runs"]
    held, read = (
        [record["accuracy"] for record in runs if record["path"] == path]
        for path in ("folder, in memory", "folder, read from disk")
    )
    assert held == read
