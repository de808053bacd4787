import pytest


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
def test_the_command_soaks_and_writes_the_section(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "VARIANTS", {"memory": elsewhere.VARIANTS["memory"]})
    monkeypatch.setitem(elsewhere.OPTIONS, "trainer.evaluate_every", 2)
    assert elsewhere.main(["--epochs", "16", "--folder", str(tmp_path / "runs")]) in (0, 1)
    (variant,) = elsewhere.REPORT.read()["variants"].values()
    assert set(variant) == set(elsewhere.TOLERANCES)
    assert all(len(of["quarters"]) == 4 for of in variant.values())
    assert variant["resident memory (MB)"]["quarters"][3] > 100
    page = elsewhere.REPORT.page_file.read_text()
    assert "| open files " in page
    assert page.count("<!-- end soak -->") == 1
    assert str(tmp_path) not in elsewhere.REPORT.results_file.read_text()
