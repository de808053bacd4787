import json

import pytest
import torch


@pytest.fixture
def results(benchmark):
    return benchmark.REPORT.read()


def test_the_synthetic_predictions_are_shaped_like_a_trained_networks(benchmark):
    shape = benchmark.shape_of(benchmark.synthetic_predictions(512, 1000, seed=1))
    assert shape["top1_mass"] == pytest.approx(0.698, abs=0.05)
    assert shape["top5_mass"] == pytest.approx(0.891, abs=0.03)


def test_more_classes_err_less(benchmark):
    rows = benchmark.synthetic_predictions(64, 100, seed=0)
    errors = [benchmark.error_of(rows, top_k)["kl_mean"] for top_k in (2, 4, 8, 99)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(0, abs=1e-3)


def test_a_filled_history_is_read_everywhere(benchmark, tmp_path):
    rows = benchmark.synthetic_predictions(7, 50, seed=0)
    history = benchmark.filled(benchmark.TINY, 4, "memmap", rows, tmp_path)
    assert history.state_dict()["written"].all()
    read = history.read(torch.arange(500), torch.zeros(500, dtype=torch.int64))["branch3"]
    top = rows.argmax(dim=1)[torch.arange(500) % 7]
    assert torch.equal(read.argmax(dim=1), top)


@pytest.mark.slow
def test_it_measures_in_little_and_makes_its_section(benchmark, digits_as_cifar100, tmp_path, monkeypatch):
    scale = json.loads(json.dumps(benchmark.measure_scale(benchmark.TINY, 2)))
    small = {"data.train_per_class": None, "trainer.epochs": 1, "loader.batch_size": 20}
    monkeypatch.setattr(benchmark, "OVERRIDES", {**benchmark.OVERRIDES, **small, "backbone.width": 4})
    monkeypatch.setattr(benchmark, "TOP", {"all": 0, "4": 4})
    monkeypatch.setattr(benchmark, "SEEDS", (0, 1))
    accuracy = benchmark.measure_accuracy(str(digits_as_cifar100), tmp_path / "runs")
    assert str(tmp_path) not in json.dumps(accuracy)
    section = benchmark.section({"scale": scale, "accuracy": accuracy})
    assert "| all, float32" in section
    assert "| top 4 | files" in " ".join(section.split())


def test_the_aims_are_met(benchmark, results):
    scale = results["scale"]
    assert scale["top_k"]["12"]["bytes"] <= benchmark.AIM_GB * 1e9
    for row in scale["top_k"].values():
        assert all(place["relative"] < benchmark.AIM_SHARE for place in row["places"].values())
