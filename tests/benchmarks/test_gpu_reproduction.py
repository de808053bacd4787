from dataclasses import replace

import pytest
import yaml
from gpu_records import made_up_record

from selfkd.recipes.files import recipe_names

DTSKD, PLAIN = "dtskd/cifar100/resnet18/dtskd", "dtskd/cifar100/resnet18/plain"  # published 80.46, 76.27
LOTH = "loth/cifar100/resnet18/loth"


@pytest.fixture
def logs(benchmark):
    return yaml.safe_load(benchmark.LOTH_LOGS.read_text())


def row(page, name, head="main"):
    """The cells of a figure's line."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    (found,) = [cells for cells in lines if cells[:2] == [name.split("/", 2)[2], head] and "Table" in cells[-1]]
    return found[2:7]


@pytest.mark.parametrize(
    ("best", "verdict"),
    [(80.46, "reproduced"), (80.76, "reproduced"), (80.77, "above"), (80.16, "reproduced"), (80.15, "below")],
)
def test_verdicts_at_their_limits(benchmark, records, logs, best, verdict):
    page = benchmark.page([made_up_record(records, DTSKD, last=80.0, best=best)], [DTSKD, PLAIN], logs)
    assert row(page, DTSKD) == ["80.46", "80.00", f"{best:.2f}", "0", verdict]
    assert row(page, PLAIN) == ["76.27", "not run", "not run", "none", "not run"]
    assert f"1 {verdict}" in page
    assert "1 not run" in page


def test_seeds_are_averaged_and_the_verdict_is_that_of_the_mean(benchmark, records, logs):
    runs = [made_up_record(records, DTSKD, seed, 80.0, best) for seed, best in ((2, 80.9), (0, 80.1), (1, 80.5))]
    published, last, selected, seeds, verdict = row(benchmark.page(runs, [DTSKD], logs), DTSKD)
    assert (published, last, seeds, verdict) == ("80.46", "80.00 ± 0.00", "0, 1, 2", "reproduced")
    assert selected == "80.50 ± 0.99", "Student's t at 2 degrees of freedom: 4.303 * 0.4 / sqrt(3)"


def test_loth_selects_its_fusion_by_itself_and_shows_its_curve(benchmark, records, logs):
    page = benchmark.page([made_up_record(records, LOTH, last=78.0, best=81.0)], [LOTH], logs)
    assert row(page, LOTH)[2] == "81.00"
    assert row(page, LOTH, "branch1")[2] == "81.00"
    assert row(page, LOTH, "fusion")[2] == "82.00"
    assert "81.10 / 78.00" in page, "the authors' exit 4 after epoch 200, and ours"
    assert "82.08 / 82.00" in page, "the best of fusion"
    assert "81.95 / 78.70" in page, (
        "the mean of the last ten epochs, (78 * 7 + 81 + 82 + 78) / 10 with the made-up peaks"
    )


def test_another_rule_of_selection_is_followed_or_refused(benchmark, records):
    record = made_up_record(records, DTSKD, last=80.0, best=81.0)
    published = next(benchmark.published_figures([DTSKD]))
    assert benchmark.rule_of(published)(record, "main") == 81.0
    assert benchmark.rule_of(replace(published, selection="last epoch"))(record, "main") == 80.0
    with pytest.raises(ValueError, match="must begin with best-on-test or last"):
        benchmark.rule_of(replace(published, selection="by a feeling"))


def test_the_rule_of_every_published_figure_is_known(benchmark):
    figures = list(benchmark.published_figures(recipe_names()))
    assert figures
    assert all(benchmark.rule_of(figure) for figure in figures)


def test_the_authors_logs_are_whole(benchmark, logs):
    for name, log in logs["logs"].items():
        rows = [*log["epochs"].values(), log["mean_of_last_10"], log["own_best"], log["own_best_epochs"]]
        assert all(len(values) == len(logs["heads"]) for values in rows)
        figures = {figure.head: figure.value for figure in benchmark.published_figures([name])}
        best = dict(zip(logs["heads"], log["own_best"], strict=True))
        assert (best["main"], best["fusion"]) == (figures["main"], figures["fusion"]), "as the poster's table has it"


def test_what_waits_in_the_queue_is_said_and_what_is_not_queued(benchmark, logs):
    taught = "dtskd/cifar100/resnet18/kd"
    figures = len(list(benchmark.published_figures([DTSKD, PLAIN, taught])))
    page = benchmark.page([], [DTSKD, PLAIN, taught], logs, {PLAIN})
    assert f"None of the {figures} figures" in page
    assert "1 of them wait in the queue in `benchmarks/gpu/`. Recipes with a second network are not queued." in page
    assert "not queued" not in benchmark.page([], [DTSKD, taught], logs, {taught})
    assert "not queued" not in benchmark.page([], [DTSKD, PLAIN], logs, {PLAIN})


def test_the_page_in_the_docs_is_made_of_the_results(benchmark):
    assert benchmark.page_of_results() == benchmark.PAGE.read_text(), "run: python benchmarks/gpu/reproduction.py"
