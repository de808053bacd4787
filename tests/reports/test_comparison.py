import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from finished_runs import write_run
from selfkd.errors import CheckpointError, RunError
from selfkd.recipes.reader import resolve
from selfkd.reports.comparison import Comparison, Skipped
from selfkd.reports.estimates import Difference, Estimate
from selfkd.reports.results import read_result
from selfkd.runs.run_folder import RunFolder

DEMO = "demo/digits/resnet18"
PLAIN, DTSKD = f"{DEMO}/plain", f"{DEMO}/dtskd"


class Runs:
    """Finished runs in a folder, and the comparison of them."""

    def __init__(self, folder):
        self.folder = folder
        self.recipes, self.results = {}, []

    def add(self, name, seed, last, correct=None, images=None, overrides=None, **others):
        """Add a run. `images` names its test images; a run without them does not say which it had."""
        recipe = resolve(name, {"seed": seed, **(overrides or {})})
        self.recipes.setdefault(recipe.name, recipe)
        last = last if isinstance(last, dict) else {"main": last}
        if images is not None:
            others["fingerprints"] = {"fingerprint": f"1:all {images}", "test_fingerprint": f"1:{images}"}
        result = read_result(recipe, write_run(recipe, self.folder, last, **others))
        self.results.append(replace(result, correct=correct))

    def compared(self, baseline=None, **others):
        names = list(self.recipes)
        return Comparison.of([*self.recipes.values()], self.results, baseline or names[0], **others)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


@pytest.fixture
def two(runs):
    """Plain and DTSKD with three seeds each."""
    for seed, (plain, dtskd) in enumerate([(90.0, 91.0), (92.0, 94.0), (91.0, 92.5)]):
        runs.add(PLAIN, seed, plain, best={"main": plain + 1}, train={"main": 99.0})
        last = {"main": dtskd, "branch1": dtskd - 10}
        runs.add(DTSKD, seed, last, best={"main": dtskd, "branch1": 80.0}, seconds=3.0, images_seen=2000)
    return runs


def test_a_row_has_mean_and_deviation_over_the_seeds(two):
    plain, dtskd = two.compared().rows
    assert (plain.name, plain.head, plain.seeds) == ("plain", "main", (0, 1, 2))
    assert plain.last == Estimate(91.0, 1.0, 3, (90.0, 92.0, 91.0))
    assert plain.best == Estimate(92.0, 1.0, 3, (91.0, 93.0, 92.0))
    assert plain.train == Estimate(99.0, 0.0, 3, (99.0, 99.0, 99.0))
    assert plain.best_epochs == (7, 8, 9)
    assert plain.rules == ("best-on-test",)
    assert plain.over_seeds is plain.over_images is plain.published is None
    assert (dtskd.name, dtskd.head) == ("dtskd", "main")
    assert dtskd.over_seeds.mean == pytest.approx(1.5)
    assert (dtskd.over_seeds.low, dtskd.over_seeds.high) == pytest.approx((0.2579, 2.7421), abs=1e-4)


def test_all_heads_are_shown_on_demand_beside_main_of_the_baseline(two):
    rows = two.compared(heads="all").rows
    assert [(row.name, row.head) for row in rows] == [("plain", "main"), ("dtskd", "main"), ("dtskd", "branch1")]
    assert rows[2].over_seeds.mean == pytest.approx(-8.5)


def test_any_recipe_can_be_the_baseline(two):
    plain, dtskd = two.compared(baseline=DTSKD).rows
    assert plain.over_seeds.mean == pytest.approx(-1.5)
    assert dtskd.over_seeds is None


def test_cost_is_time_and_images_beside_the_baseline(two):
    plain, dtskd = two.compared().costs
    assert (plain.relative, dtskd.relative) == (1.0, 1.5)
    assert (dtskd.images_seen, dtskd.seconds_per_epoch, dtskd.seconds) == (2000, 3.0, 30.0)
    assert (dtskd.parameters, dtskd.deployed_parameters, dtskd.devices) == (1500, 1000, ("cpu",))


def test_times_of_different_devices_are_not_compared(runs):
    runs.add(PLAIN, 0, 90.0)
    runs.add(DTSKD, 0, 90.0, device="NVIDIA H100")
    comparison = runs.compared()
    assert [cost.relative for cost in comparison.costs] == [1.0, None]
    text = comparison.to_markdown()
    assert "on NVIDIA H100, cpu." in text
    assert "cost is empty for dtskd: the devices or the CPU are not those of the baseline." in text


@pytest.mark.parametrize(("other", "relative"), [("AMD EPYC", 1.0), ("Intel Xeon", None), (None, None)])
def test_times_of_different_cpus_are_not_compared(runs, other, relative):
    runs.add(PLAIN, 0, 90.0, processor="AMD EPYC")
    runs.add(DTSKD, 0, 90.0, processor=other)
    comparison = runs.compared()
    assert comparison.costs[1].relative == relative
    assert "cpu (AMD EPYC)" in comparison.to_markdown()


def test_beside_a_gpu_the_cpu_does_not_count(runs):
    runs.add(PLAIN, 0, 90.0, device="NVIDIA H100", processor="AMD EPYC")
    runs.add(DTSKD, 0, 90.0, device="NVIDIA H100", processor="Intel Xeon")
    comparison = runs.compared()
    assert comparison.costs[1].relative == 1
    assert "on NVIDIA H100." in comparison.to_markdown()


def test_times_of_one_and_of_several_processes_are_not_compared(runs):
    runs.add(PLAIN, 0, 90.0, processes=2)
    runs.add(DTSKD, 0, 90.0)
    comparison = runs.compared()
    assert [cost.relative for cost in comparison.costs] == [1.0, None]
    assert "on 2 x cpu, cpu." in comparison.to_markdown()


def test_what_only_some_recipes_have_is_an_empty_cell_with_a_reason(runs):
    runs.add(PLAIN, 0, 90.0, images_seen=None)
    runs.add(DTSKD, 0, 90.0, seconds=None)
    text = runs.compared().to_markdown()
    assert "images seen is empty for plain: a run did not record it." in text
    assert "training time is empty for dtskd: a run did not record it." in text
    assert "not those of the baseline" not in text
    assert "There is no column" not in text


def test_what_no_run_recorded_is_a_missing_column_with_a_reason(runs):
    runs.add(PLAIN, 0, 90.0, seconds=None, images_seen=None)
    comparison = runs.compared()
    (cost,) = comparison.costs
    assert cost.images_seen is cost.seconds is cost.seconds_per_epoch is cost.relative is None
    text = comparison.to_markdown()
    assert "| images seen" not in text
    assert 'There is no column "images seen", because the runs did not record it.' in text
    assert 'There is no column "training time", because the runs did not record it.' in text
    assert "s/epoch and training time:" not in text


def test_only_shared_seeds_are_paired(runs):
    runs.add(PLAIN, 0, 90.0)
    runs.add(PLAIN, 1, 80.0)
    runs.add(DTSKD, 1, 83.0)
    comparison = runs.compared()
    assert comparison.rows[1].over_seeds == Difference(3.0, None, None, 1)
    text = comparison.to_markdown()
    assert "A single seed gives no interval" in text
    assert "| +3.00 " in text, "of the only run"


def test_the_number_of_pairs_is_shown_where_there_are_more_runs(runs):
    for seed in range(4):
        runs.add(PLAIN, seed, 90.0)
        runs.add(DTSKD, seed + 3, 92.0)
        runs.add(f"{DEMO}/ps_kd", seed + 2, 90.0 + seed)
    text = runs.compared().to_markdown()
    assert "| +2.00 (1 seed) " in text
    assert "| +0.50 [-5.85, +6.85] (2 seeds) |" in text


def test_the_reason_of_a_missing_difference_is_not_guessed(runs):
    runs.add(DTSKD, 0, {"main": 90.0, "branch1": 80.0})
    assert runs.compared().without_predictions == (), "main alone has no difference"
    (reason,) = runs.compared(heads="all").without_predictions
    assert reason.startswith("a run has not kept its predictions for the test images")
    runs.add(PLAIN, 1, 90.0)
    assert runs.compared().without_predictions == (), "where no seed is shared, nothing is paired"


def correct(share, seed, n=100):
    return {"main": np.random.default_rng(seed).random(n) < share}


def test_images_that_all_seeds_share_are_paired_by_their_mean(runs):
    for seed in range(2):
        runs.add(PLAIN, seed, 90.0, correct(0.8, seed), "of all")
        runs.add(DTSKD, seed, 90.0, correct(0.9, seed + 10), "of all")
    comparison = runs.compared()
    difference = comparison.rows[1].over_images
    means = [np.mean([run.correct["main"] for run in runs.results[start::2]]) for start in (0, 1)]
    assert difference.mean == pytest.approx(100 * (means[1] - means[0]))
    assert difference.n == 100
    assert difference.low < difference.mean < difference.high
    assert comparison.image_pairs == "images"
    assert comparison.rows[0].over_images is None


def test_seeds_with_their_own_images_are_taken_together(runs):
    for seed in range(2):
        runs.add(PLAIN, seed, 90.0, correct(0.8, seed), f"of seed {seed}")
        runs.add(DTSKD, seed, 90.0, correct(0.9, seed + 10), f"of seed {seed}")
    comparison = runs.compared()
    assert comparison.rows[1].over_images.n == 200
    assert comparison.data_differences == ()
    assert comparison.image_pairs == "images and seeds"
    assert "The seeds have different test images, which may overlap" in comparison.to_markdown()


def test_runs_on_other_test_images_are_not_paired(runs):
    for seed in range(3):
        runs.add(PLAIN, seed, 90.0, correct(0.8, 0), "these")
        runs.add(DTSKD, seed, 91.0 + seed, correct(0.8, 0), "those" if seed else "these")
    comparison = runs.compared()
    assert comparison.rows[1].over_seeds == Difference(1.0, None, None, 1)
    assert comparison.rows[1].over_images.n == 100
    expected = f"- Not the same: the test images of {DTSKD} and {PLAIN} (seeds 1, 2), so no difference is taken.\n"
    assert expected in comparison.to_markdown()
    assert json.loads(comparison.to_json())["data_differences"][0]["seeds"] == [1, 2]


def test_without_a_pair_on_the_same_test_images_there_is_no_difference(runs):
    runs.add(PLAIN, 0, 90.0, n=100)
    runs.add(DTSKD, 0, 90.0, n=80)
    comparison = runs.compared()
    assert comparison.rows[1].over_seeds is comparison.rows[1].over_images is None
    text = comparison.to_markdown()
    assert "difference over seeds" not in text.partition("\n\n")[0]
    assert f"Not the same: the test images of {DTSKD} and {PLAIN} (seed 0), so no difference is taken.\n" in text
    assert "no seed is shared" not in text


def test_other_training_images_are_named_and_the_runs_are_paired(runs):
    runs.add(PLAIN, 0, 90.0, correct(0.8, 0), fingerprints={"fingerprint": "1:a", "test_fingerprint": "1:c"})
    runs.add(DTSKD, 0, 91.0, correct(0.8, 0), fingerprints={"fingerprint": "1:b", "test_fingerprint": "1:c"})
    comparison = runs.compared()
    assert comparison.rows[1].over_images.n == 100
    assert f"Not the same: the data of {DTSKD} and {PLAIN} (seed 0).\n" in comparison.to_markdown()


def test_fingerprints_of_two_rules_say_nothing(runs):
    runs.add(PLAIN, 0, 90.0, correct(0.8, 0), fingerprints={"fingerprint": "abc"})
    runs.add(DTSKD, 0, 91.0, correct(0.8, 0), "these")
    comparison = runs.compared()
    assert comparison.data_differences == ()
    assert comparison.rows[1].over_seeds.mean == 1
    assert comparison.rows[1].over_images is None
    assert comparison.without_predictions == ("a run does not say which test images it had",)


def test_a_difference_over_images_is_of_the_same_seeds_as_that_over_seeds(runs):
    for seed in range(2):
        runs.add(PLAIN, seed, 90.0, correct(0.8, seed), "of all")
        runs.add(DTSKD, seed, 90.0, correct(0.9, seed + 10) if seed else None, "of all")
    assert runs.compared().rows[1].over_images is None


def test_runs_of_an_older_version_are_paired_by_the_checksum_of_all_images(runs):
    runs.add(PLAIN, 0, 90.0, correct(0.8, 0), fingerprints={"fingerprint": "1:all"})
    runs.add(DTSKD, 0, 90.0, correct(0.9, 1), fingerprints={"fingerprint": "1:all", "test_fingerprint": "1:test"})
    assert runs.compared().rows[1].over_images.n == 100


def test_a_published_figure_stands_beside_ours_with_a_verdict(runs):
    name = "teskd/cifar100/resnet18/teskd"
    for seed, best in enumerate([79.0, 79.3, 79.2]):
        runs.add(name, seed, {"main": 78.0}, best={"main": best})
    comparison = runs.compared()
    (row,) = comparison.rows
    assert row.published.figure.value == 79.14
    assert row.published.ours == Estimate.of([79.0, 79.3, 79.2])
    assert row.published.verdict.kind == "reproduced"
    assert "| 79.14 ± 0.11 " in comparison.to_markdown()
    assert "mean of 3 runs; best-on-test over the last 50 epochs" in comparison.to_markdown()


def test_every_head_with_a_figure_has_a_row_and_is_selected_as_the_figure_was(runs):
    name = "loth/cifar100/resnet18/loth"
    heads = {"main": 81.0, "branch1": 78.0, "branch2": 79.0, "branch3": 80.0, "fusion": 82.0}
    for seed in range(3):
        runs.add(name, seed, heads, epochs=(heads, {**heads, "fusion": 82.5}))
    rows = {row.head: row for row in runs.compared().rows}
    assert list(rows) == list(heads)
    assert rows["fusion"].best.mean == 82.0
    assert rows["fusion"].published.ours.mean == 82.5, "at its own best epoch"


ONE = "teskd/cifar100/resnet18/one"
BRANCHES = "mean of main, branch1, branch2"


def of_one(seed, points=0.0):
    """Accuracies of ONE, as one seed may reach them."""
    return {"main": 78.0 + seed + points, "branch1": 76.5 + points, "branch2": 76.0 + points, "fusion": 79.0 + points}


def test_the_mean_over_heads_has_a_row_with_its_figure(runs):
    for seed in range(3):
        runs.add("teskd/cifar100/resnet18/plain", seed, 74.0)
        runs.add(ONE, seed, of_one(seed, points=-0.5), best=of_one(seed), train=of_one(seed, points=3.0))
    comparison = runs.compared()
    _, main, mean = comparison.rows
    assert (main.head, main.published) == ("main", None)
    assert mean.head == BRANCHES
    assert mean.best.values == pytest.approx([(230.5 + seed) / 3 for seed in range(3)])
    assert mean.last.mean == pytest.approx(mean.best.mean - 0.5)
    assert mean.train.mean == pytest.approx(mean.best.mean + 3)
    assert mean.over_seeds.mean == pytest.approx(mean.last.mean - 74)
    assert mean.published.figure.value == 77.01
    assert mean.published.ours == mean.best
    assert mean.published.verdict.kind == "reproduced"
    text = comparison.to_markdown()
    assert f"| one      | {BRANCHES} |" in text
    assert f"- {BRANCHES}: the mean of the accuracies of these heads." in text
    (line,) = [line for line in csv.DictReader(io.StringIO(comparison.to_csv())) if line["head"] == BRANCHES]
    assert (line["published_top1"], line["verdict"]) == ("77.01", "reproduced")
    figure = json.loads(comparison.to_json())["rows"][2]["published"]["figure"]
    assert figure["heads"] == ["main", "branch1", "branch2"]
    assert [row.head for row in runs.compared(heads="all").rows[1:]] == [*of_one(0), BRANCHES]


def test_the_share_of_the_heads_that_are_right_is_paired_over_images(runs):
    runs.add("teskd/cifar100/resnet18/plain", 0, 74.0, {"main": np.zeros(100, dtype=bool)}, "of all")
    right = {head: np.arange(100) < count for head, count in zip(of_one(0), (90, 60, 30, 95), strict=True)}
    runs.add(ONE, 0, of_one(0), right, "of all")
    _, main, mean = runs.compared().rows
    assert main.over_images.mean == pytest.approx(90)
    assert (mean.over_images.mean, mean.over_images.n) == (pytest.approx(60), 100)


def test_a_run_without_one_of_the_heads_has_no_row_for_their_mean(runs):
    runs.add(ONE, 0, {"main": 78.0, "branch1": 76.0})
    assert [row.head for row in runs.compared().rows] == ["main"]


def test_a_changed_recipe_is_another_budget(runs):
    runs.add("teskd/cifar100/resnet18/teskd", 0, 50.0, overrides={"trainer.epochs": 15})
    assert runs.compared().rows[0].published.verdict.kind == "another budget"


def test_the_differences_of_the_trainings_stand_under_the_table(runs):
    runs.add(PLAIN, 0, 90.0)
    runs.add(DTSKD, 0, 90.0, overrides={"trainer.epochs": 15})
    text = runs.compared().to_markdown()
    assert f"Not the same: trainer.epochs is 200 in {PLAIN} and 15 in {DTSKD}+trainer.epochs=15." in text
    assert "The same for all: data=digits, backbone=resnet18_cifar" in text


def test_what_differs_beside_the_method_is_said(runs):
    runs.add(PLAIN, 0, 90.0)
    runs.add(DTSKD, 0, 90.0, overrides={"augmentation": "crop_flip", "regularization.mixup": 0.5})
    comparison = runs.compared()
    other = "dtskd+augmentation=crop_flip+regularization.mixup=0.5"
    assert [row.name for row in comparison.rows] == ["plain", other]
    text = comparison.to_markdown()
    assert f"- augmentation differs: none in plain; crop_flip in {other}.\n" in text
    assert f"- regularization.mixup differs: 0.0 in plain; 0.5 in {other}.\n" in text
    assert json.loads(comparison.to_json())["compared"]["augmentation"][PLAIN] == "none"


def test_rules_of_the_best_epoch_stand_in_the_legend_alone(runs):
    after = {"rule": "best-on-test", "after_epoch": 201}
    runs.add(PLAIN, 0, 90.0, rule=after)
    text = runs.compared().to_markdown()
    assert "| best-on-test epoch (%) |" in text.replace("   |", " |")
    assert (
        "- best-on-test: the evaluated epoch after epoch 201 with the highest accuracy of main on the split test."
        in text
    )
    assert "The accuracy at the best-on-test epoch is too high" in text
    runs.add(DTSKD, 0, 90.0)
    text = runs.compared().to_markdown()
    assert "- best-on-test of plain: the evaluated epoch after epoch 201 with" in text
    assert "- best-on-test of dtskd: the evaluated epoch with" in text
    assert text.count("The accuracy at the best-on-test epoch") == 1


def test_skipped_runs_are_named_under_the_table(two, tmp_path):
    skipped = [Skipped(PLAIN, 7, tmp_path / "seed-7", "epoch 3 of 200 is done\nselfkd: forged", False)]
    comparison = two.compared(skipped=skipped)
    assert (
        rf"- Not in the tables: {tmp_path}/seed-7: epoch 3 of 200 is done\nselfkd: forged" in comparison.to_markdown()
    )
    (entry,) = json.loads(comparison.to_json())["skipped"]
    assert entry["reason"].startswith("epoch 3")


def test_a_baseline_without_a_finished_run_is_said(two):
    other = resolve("demo/digits/resnet18/ps_kd")
    comparison = Comparison.of([other, *two.recipes.values()], two.results, other.name)
    assert all(row.over_seeds is None for row in comparison.rows)
    assert f"no run of the baseline {other.name} is finished" in comparison.to_markdown()


def test_a_run_of_another_recipe_or_without_accuracies_is_refused(tmp_path):
    recipe = resolve(PLAIN)
    folder = write_run(recipe, tmp_path, {"main": 90.0})
    with pytest.raises(RunError, match=r"another experiment .*optimizer.lr: 0.05 there, 0.1 now"):
        read_result(resolve(PLAIN, {"optimizer.lr": 0.1}), folder)
    folder.metrics_file.write_text("nothing")
    assert read_result(recipe, folder).selected == {}, "no figure is published, so the log is not needed"
    folder = write_run(resolve(DTSKD), tmp_path, {"boxes": 90.0})
    with pytest.raises(RunError, match=r"scores.json holds no top-1 accuracy of the head main on the test images$"):
        read_result(resolve(DTSKD), folder)
    recipe = resolve("loth/cifar100/resnet18/loth")
    folder = write_run(recipe, tmp_path, {"main": 90.0})
    folder.metrics_file.write_text("nothing\n1")
    with pytest.raises(CheckpointError, match="metrics.csv is damaged"):
        read_result(recipe, folder)


def test_four_files_of_a_run_are_enough(tmp_path):
    recipe = resolve(PLAIN)
    folder = write_run(recipe, tmp_path, {"main": 90.0})
    names = {"recipe.yaml", "scores.json", "metrics.csv", "environment.json"}
    assert {file.name for file in folder.path.iterdir()} == names
    assert read_result(recipe, RunFolder(folder.path)).top1("last", ("main",)) == 90
