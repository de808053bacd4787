import json

import pytest

from benchmark_files import load_benchmark


@pytest.fixture
def benchmark():
    return load_benchmark("killed_runs")


def kill(method, stage, aimed=False):
    return {"method": method, "files": False, "aimed": aimed, "seconds": 1.0, "stage": stage, "epochs": 2}


def chain(*kills, different=(), left_behind=()):
    return {"kills": kills, "different": different, "left_behind": left_behind}


def results(benchmark, *chains):
    environment = {"packages": {"torch": "0.0"}, "device": "cpu", "threads": 1}
    return {"command": "made up", "recipe": benchmark.OPTIONS, "chains": chains, "environment": environment}


def test_the_section_says_what_was_equal_and_what_was_not(benchmark):
    first = chain(kill("plain", "training"), kill("plain", "writing a checkpoint", aimed=True))
    second = chain(kill("loth", "starting"), different=("model.safetensors",), left_behind=("best.partial",))
    section = benchmark.section(results(benchmark, first, second))
    assert "3 kills of 2 runs" in section
    assert "1 of 2 runs ended with" in section
    assert "What differed: model.safetensors." in section
    assert "Files left behind by kills: best.partial." in section
    assert "What differed" not in benchmark.section(results(benchmark, first))


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        ("", "starting"),
        ('  File "/x/pytorch_lightning/loops/fit_loop.py", line 1 in advance\n', "training"),
        ('  File "/x/scores.py", line 9 in evaluate\n  File "/x/loops/fit_loop.py", line 1 in advance\n', "evaluating"),
        (
            '  File "/x/trainer.py", line 9 in save_checkpoint\n  File "/x/fit_loop.py", line 1\n',
            "writing a checkpoint",
        ),
        ('  File "/x/runs/finish.py", line 9 in finish\n', "finishing"),
    ],
)
def test_stages_are_read_from_stacks(benchmark, stack, stage):
    assert benchmark.stage_of(stack) == stage
    assert stage in benchmark.STAGES


def test_the_section_in_the_docs_is_made_of_the_results(benchmark):
    written = load_benchmark("generated_section").section_of(benchmark.PAGE.read_text(), "killed_runs")
    measured = json.loads(benchmark.RESULTS.read_text())
    assert benchmark.section(measured) == written
    assert all(not each["different"] for each in measured["chains"])
