import pytest
import yaml

from finished_runs import write_run
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import differences
from selfkd.reports.published import figures_of
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import TrainingOutcome
from selfkd.training.epoch_log import read_epoch_log

DTSKD, PLAIN = "dtskd/cifar100/resnet18/dtskd", "dtskd/cifar100/resnet18/plain"  # published 80.46, 76.27
LOTH = "loth/cifar100/resnet18/loth"
ENVIRONMENT = {"device": "a GPU", "threads": 4, "packages": {"torch": "2.15.0"}}


@pytest.fixture
def logs(benchmark):
    return yaml.safe_load(benchmark.LOTH_LOGS.read_text())


@pytest.fixture
def finished(tmp_path):
    """`finished(name, seed, last, ...)`: a finished run with made-up numbers."""

    def make(name, seed, last, overrides=None, **others):
        recipe = resolve(name, {"seed": seed, **(overrides or {})})
        folder = write_run(recipe, tmp_path, last if isinstance(last, dict) else {"main": last}, **others)
        write_json(folder.environment_file, ENVIRONMENT)
        return TrainingOutcome(recipe, folder, None)

    return make


def test_the_page_counts_the_figures_and_says_that_none_was_run(benchmark, logs):
    page = benchmark.page([], [DTSKD, PLAIN, LOTH], logs)
    assert "have 7 published figures: 2 of dtskd/cifar100, 5 of loth/cifar100." in page
    assert "**We have run none of them at the papers' full budget.**" in " ".join(page.split())
    assert "##" not in page
    assert "not run" not in page


def test_runs_stand_below_their_protocol_with_a_verdict(benchmark, finished, logs):
    runs = [finished(DTSKD, seed, 80.0, best={"main": 80.46}) for seed in (2, 0, 1)]
    runs += [finished(PLAIN, 0, 76.0), finished("teskd/cifar100/resnet18/plain", 0, 74.0)]
    page = benchmark.page(runs, [DTSKD, PLAIN, LOTH], logs)
    run = f"We ran 2 of them at the papers' full budget, and not the others: those of `{DTSKD}`, `{PLAIN}`."
    assert run in " ".join(page.split())
    sections = page.split("\n## ")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["dtskd/cifar100", "teskd/cifar100"]
    dtskd = next(line for line in sections[1].splitlines() if line.startswith("| dtskd"))
    assert "| 80.46" in dtskd
    assert "| reproduced " in dtskd
    assert "too few seeds (1 of 3)" in sections[1]
    assert "Trained on: a GPU, 4 thread(s), torch 2.15.0." in page
    assert f"selfkd compare {PLAIN} {DTSKD} data.root=DATA_ROOT --seeds 0,1,2\n" in page


def test_one_seed_is_an_override_and_data_without_a_folder_needs_none(benchmark, finished, logs):
    page = benchmark.page([finished("demo/digits/resnet18/plain", 3, 90.0)], [], logs)
    assert "selfkd compare demo/digits/resnet18/plain seed=3\n" in page


def test_another_budget_is_a_table_of_its_own_and_no_run_figure(benchmark, finished, logs):
    changed = {"trainer.epochs": 15}
    runs = [finished(PLAIN, 0, 76.0), finished(PLAIN, 0, 50.0, changed)]
    runs.append(finished(PLAIN, 0, 51.0, {**changed, "method": "loth"}))
    page = benchmark.page(runs, [PLAIN], logs)
    assert f"We ran 1 of them at the papers' full budget, and not the others: those of `{PLAIN}`." in " ".join(
        page.split()
    )
    table = page.partition("### resnet18 with trainer.epochs=15")[2]
    assert table.count("another budget (not comparable)") == 1, "of plain alone, since the paper's figure is plain's"
    assert f"selfkd compare {PLAIN} method=loth trainer.epochs=15 data.root=DATA_ROOT seed=0" in table


def test_loths_curve_stands_beside_the_authors(benchmark, finished, logs):
    heads = logs["heads"]
    accuracies = [78.0] * 200
    accuracies[150], accuracies[195] = 82.0, 81.0
    epochs = tuple(dict.fromkeys(heads, accuracy) for accuracy in accuracies)
    page = benchmark.page([finished(LOTH, 0, dict.fromkeys(heads, 78.0), epochs=epochs)], [LOTH], logs)
    curve = page.partition("## LOTH's curves")[2]
    assert "81.10 / 78.00" in curve, "exit 4 after epoch 200"
    assert "81.95 / 78.30" in curve, "the mean of fusion's last ten epochs"
    assert "82.08 / 82.00" in curve, "the best of fusion"
    assert "LOTH's curves" not in benchmark.page([finished(DTSKD, 0, 80.0)], [LOTH], logs)


def test_the_authors_logs_are_whole(logs):
    for name, log in logs["logs"].items():
        rows = [*log["epochs"].values(), log["mean_of_last_10"], log["own_best"], log["own_best_epochs"]]
        assert all(len(values) == len(logs["heads"]) for values in rows)
        figures = {figure.head: figure.value for figure in figures_of(name)}
        best = dict(zip(logs["heads"], log["own_best"], strict=True))
        assert (best["main"], best["fusion"]) == (figures["main"], figures["fusion"]), "as in the poster's table"


def test_every_kept_run_is_what_its_name_says(benchmark, monkeypatch):
    monkeypatch.chdir(benchmark.ROOT)
    runs = benchmark.kept_runs()
    assert runs
    for run in runs:
        name, *overrides = run.recipe.name.split("+")
        options = dict(override.split("=", 1) for override in overrides)
        assert differences(resolve(name, {**options, "seed": run.recipe.seed}).flat(), run.recipe.flat()) == []
        assert RunFolder.of(run.recipe, benchmark.RUNS) == run.folder
        assert len(read_epoch_log(run.folder.metrics_file)) == run.recipe.options["trainer"]["epochs"]


def test_the_page_in_the_docs_is_made_of_the_kept_runs(benchmark):
    assert benchmark.page_of_the_repository() == benchmark.PAGE.read_text(), "run: python benchmarks/reproduction.py"
