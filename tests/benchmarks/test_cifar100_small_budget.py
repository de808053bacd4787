import json

import pytest


@pytest.mark.slow
def test_it_measures_every_method_and_the_page_says_so(benchmark, digits_as_cifar100, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "OVERRIDES", {"backbone.width": 8, "trainer.epochs": 1, "loader.batch_size": 20})
    results = benchmark.measure(str(digits_as_cifar100), tmp_path / "runs")
    assert [run["scores"]["method"] for run in results["runs"]] == list(benchmark.METHODS)
    assert all(len(run["epochs"]) == 1 for run in results["runs"])
    assert benchmark.measure("nowhere", tmp_path / "other", results["runs"]) == results, "known records are kept"
    text = json.dumps(results)
    assert str(tmp_path) not in text
    assert str(digits_as_cifar100) not in text
    page = benchmark.page(results)
    assert "the methods do not help as they do in the papers" in page
    for run in results["runs"]:
        assert f"{run['scores']['last']['scores']['train']['main']['top1']['value']:.2f}" in page
