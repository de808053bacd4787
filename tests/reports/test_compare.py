"""`selfkd.compare`: what is trained, what is compared, and what is named as missing."""

import json
import os
import shutil

import pytest

from finished_runs import write_run
from image_sets import write_folder
from selfkd.errors import OptionError, RecipeError, RunError, UnfinishedRunsError
from selfkd.recipes.reader import resolve
from selfkd.reports.compare import compare, compare_outcomes
from selfkd.runs import evaluate
from selfkd.runs.kept_predictions import read_predictions
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import TrainingOutcome
from selfkd.training.checkpoint_names import CHECKSUMS_FILE, checkpoint_folder

DEMO = "demo/digits/resnet18"
PLAIN, DTSKD = f"{DEMO}/plain", f"{DEMO}/dtskd"
TINY = {"backbone.width": 4, "trainer.epochs": 2, "trainer.evaluate_every": 1}


def write(runs, names=(PLAIN, DTSKD), seeds=(0, 1), **others):
    for name in names:
        for seed in seeds:
            write_run(resolve(name, {"seed": seed}), runs, {"main": 90.0 + seed}, **others)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of two recipes' runs with two seeds, trained by `selfkd.compare`, and their comparison."""
    runs = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "collect", None)  # the trainings keep the predictions, so that no pass follows them
        return runs, compare([PLAIN, DTSKD], 2, TINY, runs, jobs=2, show_progress=False)


@pytest.mark.slow
def test_recipes_are_trained_evaluated_and_compared(trained):
    _, comparison = trained
    assert [(row.name, row.head, row.seeds) for row in comparison.rows] == [
        ("plain", "main", (0, 1)),
        ("dtskd", "main", (0, 1)),
    ]
    plain, dtskd = comparison.rows
    assert dtskd.over_seeds.mean == pytest.approx(dtskd.last.mean - plain.last.mean)
    assert dtskd.over_images.mean == pytest.approx(dtskd.over_seeds.mean, abs=1e-3)
    assert dtskd.over_images.n == 2 * 1697
    assert comparison.image_pairs == "images and seeds"
    assert [cost.images_seen for cost in comparison.costs] == [200, 200]
    assert not comparison.skipped
    for folder in comparison.folders:
        assert len(read_predictions(RunFolder(folder), "test", "last")) == 1697


@pytest.mark.slow
def test_finished_runs_are_kept_and_give_the_same_comparison(trained):
    runs, comparison = trained
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}
    again = compare([PLAIN, DTSKD], 2, TINY, runs, show_progress=False)
    assert again == comparison
    assert compare([PLAIN, DTSKD], 2, TINY, runs, train=False) == comparison
    files = {"recipe.yaml", "model.safetensors", "scores.json", "test-last.safetensors"}
    assert all(file.stat().st_mtime_ns == time for file, time in before.items() if file.name in files)


@pytest.mark.slow
def test_runs_in_a_folder_that_cannot_be_written_have_a_difference_over_images(trained, tmp_path):
    runs, comparison = shutil.copytree(trained[0], tmp_path / "runs"), trained[1]
    for folder in [*runs.rglob("evaluation")]:
        shutil.rmtree(folder)
        folder.write_text("a file where a folder should be")
    again = compare([PLAIN, DTSKD], 2, TINY, runs, show_progress=False)
    assert again.rows == comparison.rows
    assert again.without_predictions == ()


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_compared(trained, tmp_path):
    runs = shutil.copytree(trained[0], tmp_path / "runs")
    broken = trained[1].folders[-1].relative_to(trained[0])
    (runs / broken / "scores.json").write_text("{")
    comparison = compare([PLAIN, DTSKD], 2, TINY, runs, show_progress=False)
    (skipped,) = comparison.skipped
    assert (skipped.folder, skipped.seed, skipped.failed) == (runs / broken, 1, True)
    assert "scores.json" in skipped.reason
    assert [row.seeds for row in comparison.rows] == [(0, 1), (0,)]


@pytest.mark.slow
def test_a_part_of_the_users_own_is_evaluated_after_its_training(tmp_path, monkeypatch):
    (tmp_path / "own_method_to_compare.py").write_text("from selfkd.methods.plain import Plain\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    overrides = {**TINY, "method": "plain,own_method_to_compare:Plain"}
    comparison = compare(PLAIN, 1, overrides, tmp_path / "runs", show_progress=False)
    assert comparison.without_predictions == ()
    assert comparison.rows[1].over_images.mean == 0


def test_without_training_four_files_of_each_run_are_enough(tmp_path):
    write(tmp_path)
    comparison = compare(f"{DEMO}/[dp][tl]*", 2, runs=tmp_path, train=False)
    assert [row.name for row in comparison.rows] == ["dtskd", "plain"]
    assert comparison.baseline == PLAIN, "the only one with the method plain"
    assert comparison.rows[0].over_seeds.mean == 0
    missing = "A difference over images is missing: a run has not kept its predictions for the test images"
    assert f"{missing}.\n" in comparison.to_markdown(), "without weights nothing can keep them"
    assert {file.name for file in tmp_path.rglob("*.*")} == {
        *("recipe.yaml", "scores.json", "metrics.csv", "environment.json")
    }


def test_without_training_what_is_not_finished_is_named(tmp_path):
    write(tmp_path, seeds=(0,))
    half = RunFolder.of(resolve(PLAIN, {"seed": 1}), tmp_path)
    shutil.copytree(RunFolder.of(resolve(PLAIN), tmp_path).path, half.path)
    half.scores_file.unlink()
    half.recipe_file.write_text(resolve(PLAIN, {"seed": 1}).to_yaml())
    damaged = RunFolder.of(resolve(DTSKD, {"seed": 1}), tmp_path)
    shutil.copytree(RunFolder.of(resolve(DTSKD), tmp_path).path, damaged.path)
    damaged.scores_file.write_text("nothing")
    done = RunFolder.of(resolve(PLAIN, {"seed": 3}), tmp_path)
    shutil.copytree(half.path, done.path)
    done.recipe_file.write_text(resolve(PLAIN, {"seed": 3}).to_yaml())
    checkpoint = checkpoint_folder(done.checkpoints, 200)
    checkpoint.mkdir(parents=True)
    (checkpoint / CHECKSUMS_FILE).write_text("{}")
    comparison = compare([PLAIN, DTSKD], 4, runs=tmp_path, train=False)
    reasons = {(run.recipe, run.seed): run.reason for run in comparison.skipped}
    assert reasons[PLAIN, 1] == "it is not finished: 0 of 200 epochs are done"
    assert reasons[DTSKD, 1].startswith(f"it is damaged: {damaged.scores_file} cannot be read")
    assert reasons[PLAIN, 3] == "it is not finished: all 200 epochs are done, but it has no scores yet"
    assert reasons[PLAIN, 2] == reasons[DTSKD, 2] == "it was not trained"
    assert not any(run.failed for run in comparison.skipped)


def test_a_run_of_another_recipe_is_named(tmp_path):
    write(tmp_path)
    file = RunFolder.of(resolve(DTSKD), tmp_path).recipe_file
    file.write_text(file.read_text().replace("optimizer.lr: 0.05", "optimizer.lr: 0.1"))
    (skipped,) = compare([PLAIN, DTSKD], 2, runs=tmp_path, train=False).skipped
    assert "holds another experiment (optimizer.lr: 0.1 there, 0.05 now)" in skipped.reason


def test_seeds_and_parts_may_be_lists(tmp_path):
    write(tmp_path, [PLAIN, f"{DEMO}/ps_kd"], seeds=(5,))
    recipe = resolve(PLAIN, {"method": "ps_kd", "seed": 5})
    write_run(recipe, tmp_path, {"main": 91.0})
    comparison = compare(PLAIN, [5], {"method": "plain,ps_kd"}, tmp_path, train=False)
    assert [(row.name, row.seeds) for row in comparison.rows] == [("plain", (5,)), ("ps_kd", (5,))]
    assert compare(PLAIN, overrides={"seed": "5"}, runs=tmp_path, train=False).rows[0].seeds == (5,)


def test_without_seeds_there_are_three(tmp_path):
    write(tmp_path, seeds=range(4))
    assert [row.seeds for row in compare([PLAIN, DTSKD], runs=tmp_path, train=False).rows] == [(0, 1, 2)] * 2


@pytest.mark.parametrize("given", [DTSKD, "dtskd"])
def test_the_baseline_is_named_by_its_recipe_or_as_in_the_table(tmp_path, given):
    write(tmp_path)
    assert compare([PLAIN, DTSKD], 2, runs=tmp_path, train=False, baseline=given).baseline == DTSKD


def test_without_one_plain_recipe_the_first_is_the_baseline(tmp_path):
    write(tmp_path, [f"{DEMO}/teskd", DTSKD])
    assert compare([f"{DEMO}/teskd", DTSKD], 2, runs=tmp_path, train=False).baseline == f"{DEMO}/teskd"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recipes": []}, RecipeError, "name a recipe, for example 'demo/digits/resnet18/\\*'; 'selfkd list recipes'"),
        ({"seeds": 0}, OptionError, "seeds=0 is not allowed; seeds must be a whole number >= 1"),
        ({"seeds": []}, OptionError, r"seeds=\[\] is not allowed; seeds must be a number of seeds, or a list of"),
        ({"seeds": 2.0}, OptionError, r"seeds=2\.0 is not allowed; seeds must be a number of seeds, or a list of"),
        ({"seeds": "0,1"}, OptionError, "seeds='0,1' is not allowed; seeds must be a number of seeds, or a list of"),
        ({"heads": "some"}, OptionError, "heads='some' is not allowed; heads must be"),
        (
            {"baseline": "kd"},
            OptionError,
            f"baseline='kd' is not allowed; .* one of the compared recipes: {PLAIN}, {DTSKD}",
        ),
        ({"jobs": 0, "train": True}, OptionError, "jobs=0 is not allowed"),
        ({"recipes": [PLAIN, "teskd/cifar100/resnet18/plain"]}, RecipeError, "train differently: data is 'digits' and"),
        ({}, RunError, "no run is finished; the first is .*seed-0: it was not trained"),
    ],
    ids=str,
)
def test_a_mistake_is_said_before_anything_is_trained(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        compare(**{"recipes": [PLAIN, DTSKD], "runs": tmp_path, "train": False, **arguments})
    assert not any(tmp_path.iterdir())


def test_differences_may_be_allowed(tmp_path):
    write(tmp_path, [PLAIN], n=1697)
    write(tmp_path, ["teskd/cifar100/resnet18/plain"])
    recipes = [PLAIN, "teskd/cifar100/resnet18/plain"]
    comparison = compare(recipes, 2, runs=tmp_path, train=False, allow_differences=True)
    assert comparison.test_images == (100, 1697)
    assert "data" in {difference.option for difference in comparison.differences}


@pytest.mark.slow
def test_data_in_two_places_is_refused_before_anything_is_trained(tmp_path):
    folders = [tmp_path / name for name in ("whole", "cut")]
    files = [tmp_path / f"{folder.name}.yaml" for folder in folders]
    for folder, count, file in zip(folders, (3, 2), files, strict=True):
        for split, start in (("train", 0), ("test", 6)):
            write_folder(folder / split, count, digits=range(2), start=start)
        file.write_text(f"include: {PLAIN}\ndata: folder\ndata.image_size: 16\ndata.root: {folder}\n")
    files[1].write_text(files[1].read_text() + "method: ps_kd\n")
    given = ([str(file) for file in files], 1, {"backbone.width": 4, "trainer.epochs": 1}, tmp_path / "runs")
    with pytest.raises(RecipeError, match=r"differently: data.root is .*\nadd data.root=.*whole to train all"):
        compare(*given)
    assert not (tmp_path / "runs").exists()
    comparison = compare(*given, allow_differences=True, show_progress=False)
    assert comparison.test_images == (4, 6)
    assert [each.in_test_images for each in comparison.data_differences] == [True]
    assert comparison.rows[1].over_seeds is comparison.rows[1].over_images is None


def test_if_all_trainings_failed_that_is_the_error(tmp_path):
    recipe = resolve(PLAIN)
    outcome = TrainingOutcome(recipe, RunFolder.of(recipe, tmp_path), "the loss became NaN\nin epoch 3")
    with pytest.raises(UnfinishedRunsError, match="no run is finished; the first is .*: the loss became NaN$"):
        compare_outcomes([outcome])


def test_the_comparison_of_one_run_is_its_table(tmp_path):
    recipe = resolve(DTSKD)
    folder = write_run(recipe, tmp_path, {"main": 90.0, "branch1": 80.0})
    comparison = compare_outcomes([TrainingOutcome(recipe, folder, None)])
    assert [row.head for row in comparison.rows] == ["main", "branch1"]
    assert json.loads(comparison.to_json())["rows"][0]["last"]["mean"] == 90
