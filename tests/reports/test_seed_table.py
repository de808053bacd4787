import pytest
from scipy import stats

from selfkd.errors import RunError
from selfkd.reports.seed_table import Estimate, rows_of, table, training_report
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder


def run(recipe, seed, last, best, seconds=1.0):
    def scores(value):
        return {split: {"main": {"top1": {"value": value, "unit": "%", "n": 100}}} for split in ("test", "train")}

    return {
        "recipe": recipe,
        "method": recipe.rsplit("/", 1)[-1],
        "seed": seed,
        "selection": {"rule": "best-on-test", "after_epoch": 0},
        "last": {"epoch": 10, "scores": scores(last)},
        "best": {"epoch": 7 + seed, "scores": scores(best)},
        "seconds": {"train_epoch_median": seconds},
    }


def test_the_interval_is_students():
    values = [90.0, 92.0, 91.0]
    estimate = Estimate.of(values)
    low, high = stats.t.interval(0.95, 2, loc=91.0, scale=stats.sem(values))
    assert estimate.mean == 91
    assert estimate.half_width == pytest.approx((high - low) / 2)
    assert str(estimate) == "91.00 ± 2.48"


def test_a_single_run_has_no_interval():
    assert str(Estimate.of([90.123])) == "90.12"


def test_rows_gather_the_seeds_of_each_recipe():
    rows = rows_of([run("p/plain", 0, 90, 91), run("p/plain", 1, 92, 93, seconds=3.0), run("p/dtskd", 0, 95, 96)])
    assert [(row.method, row.head, row.test_last.mean, row.test_best.mean, row.test_last.n) for row in rows] == [
        ("plain", "main", 91, 92, 2),
        ("dtskd", "main", 95, 96, 1),
    ]
    assert rows[0].best_epochs == (7, 8)
    assert rows[0].seconds_per_epoch == 2


def test_the_table_says_what_was_measured():
    text = table(rows_of([run("p/plain", 0, 90, 91), run("p/dtskd", 0, 95, 96, seconds=None)]))
    assert "best-on-test" in text
    header, _, plain, dtskd = text.splitlines()
    assert header.count("|") == plain.count("|") == dtskd.count("|")
    assert "90.00" in plain
    assert "91.00" in plain
    assert "96.00" in dtskd


def test_two_recipes_of_one_method_are_told_apart():
    assert "q/plain" in table(rows_of([run("p/plain", 0, 90, 91), run("q/plain", 0, 90, 91)]))


def test_the_report_of_runs_explains_its_table_and_names_their_folders(tmp_path):
    folders = [RunFolder(tmp_path / f"seed-{seed}") for seed in range(2)]
    for seed, folder in enumerate(folders):
        write_json(folder.scores_file, run("p/plain", seed, 90, 91))
    lines = training_report(folders).splitlines()
    assert lines[:3] == table(rows_of(folder.scores() for folder in folders)).splitlines()
    assert lines[3:] == [
        "",
        "Top-1 accuracy on 100 test images in each run. ± is the 95 % interval of the mean over the runs. Runs:",
        *(f"  {folder.path}" for folder in folders),
    ]
    assert "±" not in training_report(folders[:1])


def test_names_of_a_downloaded_run_cannot_forge_a_line():
    scores = run("p/plain", 0, 90, 91) | {"method": "plain\nselfkd: all is well\x1b[2J"}
    assert r"| plain\nselfkd: all is well\x1b[2J |" in table(rows_of([scores]))


@pytest.mark.parametrize(
    "scores",
    [
        {"test": {"boxes": {"mean_average_precision": {"value": 41.2, "unit": "%", "n": 30}}}},
        {"validation": {"main": {"top1": {"value": 41.2, "unit": "%", "n": 30}}}},
    ],
)
def test_a_run_without_accuracies_is_named(scores):
    other = run("p/detector", 0, 90, 91)
    other["last"]["scores"] = scores
    with pytest.raises(
        RunError, match=r"top-1 accuracy of (boxes|main) on the split test; the scores.json of the run p/detector"
    ):
        rows_of([run("p/plain", 0, 90, 91), other])
