import json

import pytest

from benchmark_files import load_benchmark


@pytest.fixture
def benchmark():
    return load_benchmark("soak")


def test_growth_is_noticed_and_warming_up_is_not(benchmark):
    warming = [100.0 + min(epoch, 200) for epoch in range(1000)]
    assert benchmark.judged(warming, 0.02)["flat"]
    leaking = [100.0 + 0.01 * epoch for epoch in range(1000)]
    found = benchmark.judged(leaking, 0.02)
    assert not found["flat"]
    assert found["growth"] == pytest.approx(5 / 103.745, rel=1e-3)
    assert found["slope"] == pytest.approx(10 / 103.745, rel=1e-3)
    assert not benchmark.judged([4.0] * 900 + [5.0] * 300, 0.0)["flat"]


@pytest.mark.slow
def test_the_command_soaks_and_writes_the_section(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results" / "soak.json")
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "resume.md")
    monkeypatch.setattr(benchmark, "VARIANTS", {"memory": benchmark.MEMORY})
    monkeypatch.setitem(benchmark.OPTIONS, "trainer.evaluate_every", 2)
    benchmark.PAGE.write_text("before\n<!-- begin soak -->\n<!-- end soak -->\nafter\n")
    assert benchmark.main(["--epochs", "16", "--folder", str(tmp_path / "runs")]) in (0, 1)
    (variant,) = json.loads(benchmark.RESULTS.read_text())["variants"].values()
    assert set(variant) == set(benchmark.TOLERANCES)
    assert all(len(of["quarters"]) == 4 for of in variant.values())
    assert variant["resident memory (MB)"]["quarters"][3] > 100
    page = benchmark.PAGE.read_text()
    assert "| open files " in page
    assert page.endswith("<!-- end soak -->\nafter\n")
    assert str(tmp_path) not in benchmark.RESULTS.read_text()


def test_the_section_in_the_docs_is_made_of_the_results(benchmark):
    written = load_benchmark("generated_section").section_of(benchmark.PAGE.read_text(), "soak")
    assert benchmark.section(json.loads(benchmark.RESULTS.read_text())) == written


def test_a_section_that_is_missing_is_named(benchmark):
    with pytest.raises(ValueError, match="no lines '<!-- begin soak -->'"):
        benchmark.with_section("a page", "soak", "text")
