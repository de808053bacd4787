import json

import pytest

from benchmark_files import load_benchmark


@pytest.fixture
def benchmark():
    return load_benchmark("killed_processes")


@pytest.fixture
def record(benchmark):
    return json.loads(benchmark.RESULTS.read_text())


def test_the_section_in_the_docs_is_made_of_the_results(benchmark, record):
    written = load_benchmark("generated_section").section_of(benchmark.PAGE.read_text(), "killed_processes")
    assert benchmark.section(record) == written


def test_the_section_says_what_was_not_equal(benchmark, record):
    equal = benchmark.section({**record, "different": []})
    assert "bit for bit" in equal
    different = benchmark.section({**record, "different": ["metrics.csv/3/loss", "model.safetensors"]})
    assert "bit for bit" not in different
    assert "2 differ" in different
    assert "metrics.csv/3/loss, model.safetensors" in different
