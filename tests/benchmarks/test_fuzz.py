import sys
from collections import Counter

import pytest

VERBS = {"train", "compare", "evaluate", "predict", "export", "check", "list"}
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nKeyError: 1\n'


@pytest.mark.parametrize(
    ("status", "said", "faults"),
    [
        (2, "selfkd: trainer.epochs=0 is not allowed\n", ()),
        (0, "bar:  50%|#####     | 1/2\r\tdone\n", ()),
        (1, TRACEBACK, ("traceback",)),
        (-11, "", ("exit status -11",)),
        (None, "", ("still ran after 60 s",)),
        (2, "selfkd: unknown method '\x1b[31mred'\n", ("control codes",)),
        (143, "selfkd: interrupted\n", ("exit status 143",)),
        (120, f"\x9b2J\n{TRACEBACK}", ("exit status 120", "traceback", "control codes")),
    ],
)
def test_what_counts_as_a_fault(benchmark, status, said, faults):
    assert benchmark.faults_of(status, said) == faults


def test_the_seed_draws_the_inputs(benchmark, tmp_path):
    (tmp_path / "images" / "test" / "0").mkdir(parents=True)
    (tmp_path / "images" / "test" / "0" / "0.png").write_bytes(b"")
    (tmp_path / "run").mkdir()
    for name in ("recipe.yaml", "scores.json", "model.safetensors", "data.json"):
        (tmp_path / "run" / name).write_text("seed: 0\ntrainer.epochs: 1\n")
    ground = benchmark.Ground(tmp_path / "run", tmp_path / "images")
    drawn = benchmark.inputs(ground, 0)
    assert len(drawn) >= 300
    assert {each.verb for each in drawn} == VERBS
    names = Counter((each.verb, each.about) for each in drawn)
    assert [name for name, count in names.items() if count > 1] == [], "no two are alike"
    again, other = ([each.about for each in benchmark.inputs(ground, seed)] for seed in (0, 1))
    assert [each.about for each in drawn] == again != other


def test_the_committed_result_has_no_fault(benchmark):
    results = benchmark.REPORT.read()
    assert results["inputs"] >= 300
    assert set(results["by_verb"]) == VERBS
    assert [each["about"] for each in results["failed"]] == []
    assert [each["about"] for each in results["caught_by_the_net"]] == []


def test_results_name_no_folder_of_this_machine(benchmark, tmp_path):
    said = f"{tmp_path}/input-3/a.png, {benchmark.REPORT.root}/src/selfkd/x.py, {sys.prefix}/lib/y.py, runs/tiny"
    assert (
        benchmark.without_places(said, tmp_path)
        == "INPUTS/input-3/a.png, REPOSITORY/src/selfkd/x.py, PYTHON/lib/y.py, runs/tiny"
    )


@pytest.mark.slow
def test_thirty_inputs_end_as_they_should(benchmark, tmp_path):
    results = benchmark.measure(seed=11, folder=tmp_path / "fuzz", servers=1, number=30)
    assert results["inputs"] == 30
    assert [(each["about"], each["faults"]) for each in results["failed"]] == []
    assert [(each["about"], each["said"]) for each in results["caught_by_the_net"]] == []
