import json
import zipfile
from argparse import Namespace

import pytest
import yaml

from selfkd.errors import DataError
from selfkd.recipes.files import recipe_names
from selfkd.recipes.reader import resolve
from selfkd.reports.published import is_unchanged
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder

TINY = {
    "include": "demo/digits/resnet18/plain",
    "data.classes": [0, 1],
    "data.train_per_class": 4,
    "backbone.width": 4,
    "loader.batch_size": 4,
    "trainer.epochs": 3,
    "trainer.compile": "false",
}
EVIDENCE = ["environment.json", "metrics.csv", "recipe.yaml", "scores.json"]


@pytest.fixture
def queue(tmp_path):
    """`queue(first={}, second={...})`: a queue of tiny recipes with these names and changes."""

    def make(**recipes):
        for name, changes in recipes.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(TINY | changes))
        file = tmp_path / "queue.yaml"
        file.write_text(
            yaml.safe_dump([{"seeds": [0], "recipes": [str(tmp_path / f"{name}.yaml") for name in recipes]}])
        )
        return file

    return make


@pytest.fixture
def arguments(tmp_path):
    """The words of a call, but for the queue."""
    places = {"out": "out", "runs": "runs", "results": "results"}
    return [word for option, folder in places.items() for word in (f"--{option}", str(tmp_path / folder))]


def write_log(folder, seconds, device="cpu", compiled="false"):
    """A run's recipe, its environment, and a log of epochs that took so many seconds, half of them to evaluate."""
    folder.path.mkdir(parents=True)
    folder.recipe_file.write_text(resolve("demo/digits/resnet18/plain", {"trainer.compile": compiled}).to_yaml())
    write_json(folder.environment_file, {"device": device})
    rows = [f"{epoch},1,{half / 2},{half / 2}" for epoch, half in enumerate(seconds, start=1)]
    folder.metrics_file.write_text("\n".join(["epoch,train/loss,seconds/train,seconds/evaluate", *rows]) + "\n")


@pytest.mark.slow
def test_the_queue_holds_recipes_of_the_package_each_once(benchmark):
    queue = benchmark.read_queue(benchmark.QUEUE, benchmark.CHECKPOINTS)
    assert len({(recipe.name, recipe.seed) for recipe in queue}) == len(queue)
    assert {recipe.name for recipe in queue} <= set(recipe_names())
    assert all(is_unchanged(recipe) for recipe in queue[:3])
    assert (queue[0].name, queue[0].seed) == ("dtskd/cifar100/resnet18/plain", 0)
    second = {recipe.parts["method"] for recipe in queue if {"teacher", "peer"} & set(recipe.parts)}
    assert second == {"kd", "dml"}


def test_what_is_finished_there_or_here_is_left_out(benchmark, tmp_path):
    recipes = [resolve("demo/digits/resnet18/plain", {"seed": seed}) for seed in range(3)]
    for place, seed in (("results", 0), ("runs", 2)):
        write_json(RunFolder.of(recipes[seed], tmp_path / place).scores_file, {})
    assert benchmark.not_finished(recipes, tmp_path / "results", tmp_path / "runs") == [recipes[1]]


def test_nothing_is_trained_on_a_part_of_the_data(benchmark, digits_as_cifar100):
    recipe = resolve("dtskd/cifar100/resnet18/plain", {"data.root": str(digits_as_cifar100)})
    with pytest.raises(DataError, match="holds 80 images; the whole data set has 60000"):
        benchmark.check_whole(recipe)
    benchmark.check_whole(resolve("demo/digits/resnet18/plain"))


@pytest.mark.parametrize(
    ("place", "environment", "seconds", "needed"),
    [
        ("runs/demo/digits/resnet18/plain/seed-0", {}, [9, 8, 2, 3], 30 + 60 * 2),
        ("runs/demo/digits/resnet18/plain/seed-1", {}, [9, 8, 2, 3], 30 + 60 * 2),
        ("runs/demo/digits/resnet18/plain/seed-1", {}, [9, 8], None),
        ("results/demo/digits/resnet18/plain/seed-1", {}, [9, 8, 2], 30 + 60 * 2),
        ("results/demo/digits/resnet18/plain/seed-1", {"device": "another"}, [9, 8, 2], None),
        ("results/demo/digits/resnet18/plain/seed-1", {"compiled": "default"}, [9, 8, 2], None),
        ("runs/demo/digits/resnet18/dtskd/seed-0", {}, [9, 8, 2], None),
    ],
)
def test_the_pace_is_that_of_the_same_recipe_on_the_same_device(
    benchmark, tmp_path, place, environment, seconds, needed
):
    write_log(RunFolder(tmp_path / place), seconds, **environment)
    recipe = resolve("demo/digits/resnet18/plain", {"trainer.epochs": 60, "name": "demo/digits/resnet18/plain"})
    places = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    assert benchmark.seconds_needed(recipe, Namespace(**places, seconds_per_epoch=None)) == needed
    assumed = benchmark.seconds_needed(recipe, Namespace(**places, seconds_per_epoch=1.5))
    assert assumed == (30 + 60 * 1.5 if needed is None else needed)


def test_damaged_runs_are_named_and_do_not_end_the_call(benchmark, tmp_path, capsys):
    recipe, runs = resolve("demo/digits/resnet18/plain"), tmp_path / "runs"
    folder = RunFolder.of(recipe, runs)
    write_log(folder, [2, 2, 2])
    folder.metrics_file.write_text("epoch\nx\n")
    folder.scores_file.write_text("{}")
    folder.environment_file.write_text("{")
    places = {"runs": runs, "results": tmp_path / "results"}
    assert benchmark.seconds_needed(recipe, Namespace(**places, seconds_per_epoch=None)) is None
    benchmark.pack(runs, tmp_path / benchmark.ARCHIVE, None)
    assert capsys.readouterr().out.startswith(f"not packed: {folder.path}: ")
    assert zipfile.ZipFile(tmp_path / benchmark.ARCHIVE).namelist() == []


def test_what_cannot_finish_is_not_begun(benchmark, queue, arguments, tmp_path, capsys):
    words = [*arguments, "--queue", str(queue(tiny={})), "--minutes", "2", "--seconds-per-epoch", "30"]
    assert benchmark.main(words) == 0
    assert not (tmp_path / "runs").exists()
    assert "0 of 1 are finished\nwaiting: tiny seed 0, which needs 120 s or more\n" in capsys.readouterr().out


@pytest.mark.slow
def test_the_queue_is_trained_and_its_evidence_brought_back(benchmark, queue, arguments, tmp_path, capsys):
    file = queue(tiny={}, broken={"data.train_per_class": 10**6}, other={"method": "dtskd"})
    assert benchmark.main([*arguments, "--queue", str(file), "--minutes", "5", "--commit", "abc"]) == 1
    said = capsys.readouterr().out
    assert "failed: broken seed 0: " in said
    with zipfile.ZipFile(tmp_path / "out" / benchmark.ARCHIVE) as archive:
        names = archive.namelist()
        recipe = yaml.safe_load(archive.read("tiny/seed-0/recipe.yaml"))
        environment = json.loads(archive.read("other/seed-0/environment.json"))
        scores = archive.read("tiny/seed-0/scores.json")
    assert sorted(names) == [f"{run}/seed-0/{file}" for run in ("other", "tiny") for file in EVIDENCE]
    assert not {"data.root", "teacher.path"} & set(recipe)
    assert environment["commit"], "of this repository, or the one that was given"
    assert scores == (tmp_path / "runs" / "tiny" / "seed-0" / "scores.json").read_bytes()
    assert benchmark.main([*arguments, "--queue", str(file), "--list"]) == 0
    assert capsys.readouterr().out.startswith("2 of 3 are finished\nwaiting: broken seed 0")
