import zipfile

import pytest

from finished_runs import write_run
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import differences
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder

RECIPE = "loth/cifar100/resnet18/plain"
IMAGES = {"train": 50_000, "test": 10_000}


def write_whole_run(recipe, runs, images=IMAGES, epochs=200, loss=0.5):
    """A finished run on so many images, with made-up numbers."""
    folder = write_run(recipe, runs, {"main": 77.0}, epochs=({"main": 77.0},) * epochs)
    splits = {split: {"images": number, "origin": "made up"} for split, number in images.items()}
    write_json(folder.scores_file, {**folder.scores(), "splits": splits})
    folder.metrics_file.write_text(folder.metrics_file.read_text().replace(",0.5,", f",{loss},"))
    return folder


@pytest.fixture
def archive(tmp_path):
    """`archive(place, recipe, ...)`: an archive with one run."""

    def make(place, recipe, **changes):
        number = len(list(tmp_path.iterdir()))
        folder, written = write_whole_run(recipe, tmp_path / f"runs-{number}", **changes), tmp_path / f"{number}.zip"
        with zipfile.ZipFile(written, "w") as file:
            for path in folder.path.iterdir():
                file.write(path, f"{place}/{path.name}")
        return str(written)

    return make


@pytest.fixture
def keep(benchmark, tmp_path):
    """`keep(archive)`: the exit status."""
    return lambda archive: benchmark.main([archive, "--results", str(tmp_path / "results")])


def test_a_run_is_kept_once_and_another_does_not_replace_it(archive, keep, tmp_path, capsys):
    recipe, place = resolve(RECIPE, {"seed": 1, "trainer.compile": "default"}), f"{RECIPE}/seed-1"
    assert keep(archive(place, recipe)) == 0
    kept = RunFolder(tmp_path / "results" / place)
    assert (kept.is_finished, kept.scores()["seed"], kept.recipe().name) == (True, 1, RECIPE)
    assert capsys.readouterr().out == f"kept: {kept.path}\n"
    assert keep(archive(place, recipe)) == 0
    assert capsys.readouterr().out == ""
    assert keep(archive(place, recipe, loss=0.75)) == 1
    assert "holds another run of it" in capsys.readouterr().out
    kept.metrics_file.unlink()
    assert keep(archive(place, recipe)) == 1, "a part of a run is not completed in silence"


@pytest.mark.parametrize(
    ("overrides", "changes", "reason"),
    [
        ({"trainer.epochs": 200, "optimizer.lr": 0.2, "name": RECIPE}, {}, "its recipe is not loth"),
        ({}, {"images": {"train": 25_000, "test": 10_000}}, "it had 35000 images; the whole data set has 60000"),
        ({}, {"images": {}}, "it had 0 images"),
        ({}, {"epochs": 199}, "it logged 199 epochs; the recipe has 200"),
        ({}, {"loss": float("nan")}, "a number that is not finite"),
        ({"seed": 2}, {}, "its recipe is of loth/cifar100/resnet18/plain seed 2"),
    ],
)
def test_what_is_no_evidence_is_refused(archive, keep, tmp_path, capsys, overrides, changes, reason):
    assert keep(archive(f"{RECIPE}/seed-0", resolve(RECIPE, overrides), **changes)) == 1
    assert reason in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_damaged_run_is_refused(archive, keep, capsys):
    file = archive(f"{RECIPE}/seed-0", resolve(RECIPE))
    with zipfile.ZipFile(file, "a") as runs:
        runs.writestr("other/seed-0/scores.json", "{")
    assert keep(file) == 1
    said = capsys.readouterr().out
    assert "kept: " in said
    assert "refused: other/seed-0: " in said


def test_runs_of_a_folder_are_kept_without_their_places(benchmark, keep, tmp_path):
    recipe = resolve(RECIPE, {"data.root": str(tmp_path)})
    run = write_whole_run(recipe, tmp_path / "runs")
    (run.path / "model.safetensors").write_text("weights")
    assert keep(str(tmp_path / "runs")) == 0
    kept = RunFolder.of(recipe, tmp_path / "results")
    assert sorted(file.name for file in kept.path.iterdir()) == [
        "environment.json",
        "metrics.csv",
        "recipe.yaml",
        "scores.json",
    ]
    assert str(tmp_path) not in kept.recipe_file.read_text()
    assert differences(kept.recipe().flat(), recipe.flat()) == []


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_is_no_archive_is_an_error(keep, tmp_path, capsys, content):
    file = tmp_path / "finished_runs.zip"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        keep(str(file))
    assert f"{file} cannot be unpacked" in capsys.readouterr().err
