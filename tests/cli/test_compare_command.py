import csv
import io
import json

import pytest

from finished_runs import write_run
from selfkd.cli import main
from selfkd.recipes.reader import resolve

PLAIN, DTSKD = (f"demo/digits/resnet18/{method}" for method in ("plain", "dtskd"))


@pytest.fixture
def compare(monkeypatch, tmp_path, capsys):
    """`compare(...)`: the verb without training, in a folder with two finished runs of two recipes."""
    monkeypatch.chdir(tmp_path)
    for name in (PLAIN, DTSKD):
        for seed in (0, 1):
            write_run(resolve(name, {"seed": seed}), tmp_path / "runs", {"main": 90.0 + seed, "branch1": 80.0})

    def call(*arguments):
        capsys.readouterr()
        status = main(["compare", PLAIN, DTSKD, "--no-train", "--seeds", "2", *arguments])
        return status, *capsys.readouterr()

    return call


def test_the_tables_are_printed(compare):
    status, text, errors = compare()
    assert (status, errors) == (0, "")
    assert text.startswith("| method ")
    assert "| dtskd    | main   | 2      | 90.50 ± 0.71 " in text


@pytest.mark.parametrize("form", [["--json"], ["--format", "json"]])
def test_json_is_one_document(compare, form):
    status, text, errors = compare(*form)
    assert (status, errors) == (0, "")
    assert [row["recipe"] for row in json.loads(text)["rows"]] == [PLAIN, DTSKD]


def test_csv_and_latex(compare):
    assert [line["head"] for line in csv.DictReader(io.StringIO(compare("--format", "csv")[1]))] == ["main", "main"]
    assert compare("--format", "latex")[1].count(r"\begin{tabular}") == 2


def test_heads_and_baseline(compare):
    rows = json.loads(compare("--json", "--heads", "all", "--baseline", "dtskd")[1])["rows"]
    assert [(row["name"], row["head"]) for row in rows] == [
        *(("plain", "main"), ("plain", "branch1"), ("dtskd", "main"), ("dtskd", "branch1"))
    ]
    assert rows[2]["over_seeds"] is None


def test_a_file_is_written_and_kept(compare, tmp_path):
    status, text, _ = compare("--output", "table.md")
    assert (status, text) == (0, "")
    written = (tmp_path / "table.md").read_text()
    assert written == compare()[1]
    status, _, errors = compare("--output", "table.md")
    assert status == 2
    assert "--overwrite" in errors
    assert compare("--output", "table.md", "--overwrite")[0] == 0
    status, text, errors = compare("--overwrite")
    assert (status, text) == (2, "")
    assert errors.startswith("selfkd: --overwrite is not allowed; it replaces the file of --output; give --output, or")


def test_a_list_of_seeds_and_what_is_missing(compare):
    assert [row["seeds"] for row in json.loads(compare("--seeds", "1,", "--json")[1])["rows"]] == [[1], [1]]
    status, text, _ = compare("--seeds", "1,7")
    assert status == 0, "nothing was to be trained"
    assert f"- Not in the tables: runs/{PLAIN}/seed-7: it was not trained" in text


def test_a_failed_run_gives_status_1_after_the_table(compare, monkeypatch, tmp_path, capsys):
    from selfkd.reports import compare as module

    def killed(recipes, runs, *others, **flags):
        folders = [module.RunFolder.of(recipe, runs) for recipe in recipes]
        errors = [None] * (len(recipes) - 1) + ["it was killed"]
        return [module.TrainingOutcome(*each) for each in zip(recipes, folders, errors, strict=True)]

    monkeypatch.setattr(module, "train_several", killed)
    assert main(["compare", PLAIN, DTSKD, "--seeds", "2"]) == 1
    text, errors = capsys.readouterr()
    assert f"- Not in the tables: runs/{DTSKD}/seed-1: it was killed" in text
    assert errors.endswith(f"selfkd: 1 of 4 runs are not finished: runs/{DTSKD}/seed-1\n")


@pytest.mark.slow
def test_the_command_trains_and_compares(selfkd, tmp_path):
    arguments = ("compare", PLAIN, DTSKD, "trainer.epochs=1", "backbone.width=4", "--seeds", "2", "--jobs", "2")
    done = selfkd(*arguments, "--no-progress", "--json")
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)
    assert [row["seeds"] for row in comparison["rows"]] == [[0, 1], [0, 1]]
    assert comparison["rows"][1]["over_images"]["n"] == 2 * 1697
    broken = tmp_path / comparison["folders"][3] / "scores.json"
    broken.write_text("{")
    done = selfkd(*arguments, "--no-progress")
    assert done.returncode == 1
    assert "| dtskd    | main   | 1  " in done.stdout
    assert f"- Not in the tables: {comparison['folders'][3]}: " in done.stdout
    assert done.stderr.splitlines()[-1].startswith("selfkd: 1 of 4 runs are not finished: ")
