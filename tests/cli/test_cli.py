import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

RECIPE = "demo/digits/resnet18/dtskd"
SHORT = ("backbone.width=8", "trainer.epochs=2")


LISTS = [["list", kind] for kind in ("methods", "backbones", "recipes", "datasets")]
LISTS.append(["list", "runs", "."])


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], *LISTS])
def test_help_and_lists_import_no_torch(arguments):
    code = f"""
import sys
from selfkd.cli import main
status = main({arguments!r})
assert status == 0, status
heavy = [name for name in ("torch", "timm", "pytorch_lightning", "sklearn") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_help_of_verbs_that_take_a_run_says_the_same(command):
    for verb, flags in {"evaluate": (), "predict": ("--overwrite",), "export": ("--overwrite",)}.items():
        text = " ".join(command(verb, "--help")[1].split())
        assert "If the run is not finished, its newest undamaged checkpoint is used." in text
        assert all(f"{flag} replace the file of --output if it exists" in text for flag in flags)


def test_lists_name_everything_in_text_and_json(command):
    _, text, _ = command("list", "methods")
    listed = json.loads(command("list", "methods", "--json")[1])
    assert {"plain", "label_smoothing", "ps_kd", "dtskd"} <= set(listed)
    assert all(name in text and method["summary"] in text for name, method in listed.items())
    assert re.search(r"^teskd +structure +\+25\.8 M +\+220 % +stages that halve ", text, re.MULTILINE)
    assert "dbfskd is not here: Diversified Branch Fusion (2023) cannot be specified because its fusion" in text
    assert "dbfskd" not in listed
    assert "80.46" in json.loads(command("list", "recipes", "--json")[1])["dtskd/cifar100/resnet18/dtskd"]
    assert "timm.list_models()" in command("list", "backbones")[1]


def test_the_help_of_a_recipe_names_every_key(command):
    status, text, _ = command("train", "dtskd/cifar100/resnet18/dtskd", "--help")
    assert status == 0
    for expected in ("method.beta_max=0.9", "trainer.epochs=300", "data.root=null", "weight of the label at the start"):
        assert expected in text
    assert "method.alpha=0.8" in command("train", "dtskd/cifar100/resnet18/dtskd", "method=ps_kd", "--help")[1]


def test_train_evaluate_predict_export(selfkd, command, caplog, tmp_path):
    done = selfkd("train", RECIPE, *SHORT, "--json")
    assert done.returncode == 0, done.stderr
    (scores,) = json.loads(done.stdout)
    run = scores["folder"]
    assert "the history of predictions takes" in done.stderr
    assert "epoch 2/2" in done.stderr, "the progress bar"

    _, output, _ = command("evaluate", run, "--json")
    for head, metrics in scores["last"]["scores"]["test"].items():
        for name, score in metrics.items():
            assert {**json.loads(output)["scores"][head][name], "interval": None} == {**score, "interval": None}
    of_train = ("--split", "train", "--checkpoint", "best", "--temperature", "--keep-logits")
    _, text, _ = command("evaluate", run, *of_train)
    assert f"the logits are kept in {run}/evaluation/train-best.safetensors" in caplog.text
    assert (tmp_path / run / "evaluation" / "train-best.safetensors").is_file()
    assert all(head in text for head in ("main", "branch1", "branch2", "branch3", "top1 (%)", "aurc", "adaptive_ece"))
    assert "Temperature fitted on half of the train split, drawn by seed 0 (50 images)" in text
    assert command("evaluate", run, "--json", "trainer.epochs=3")[0] == 2
    status, _, errors = command("evaluate", run, "--keep-logits", "--data", run)
    assert (status, errors.startswith("selfkd: --keep-logits is not allowed; a run's folder")) == (2, True)

    image = tmp_path / "digit.png"
    Image.fromarray(np.uint8(load_digits().images[0] * (255 / 16))).save(image)
    (prediction,) = json.loads(command("predict", run, image, "--top", "2", "--json")[1])
    assert prediction["image"] == str(image)
    assert len(prediction["classes"]) == 2
    assert "%" in command("predict", run, image)[1]
    assert json.loads(command("predict", run, tmp_path, "--json")[1])[0]["image"] == str(image)

    _, output, _ = command("export", run, "--format", "safetensors", "--output", "net.safetensors", "--json")
    assert json.loads(output)["largest_difference"] <= 1e-6
    assert (tmp_path / "net.safetensors").exists()

    status, text, _ = command("train", RECIPE, *SHORT)
    assert status == 0
    assert "is finished" in caplog.text
    assert "dtskd" in text


def test_options_and_overrides_come_in_any_order(command, tmp_path):
    status, output, _ = command("train", "trainer.epochs=1", "--no-progress", "--json", RECIPE, "backbone.width=4")
    assert status == 0
    (scores,) = json.loads(output)
    assert scores["last"]["epoch"] == 1
    recipe = tmp_path / scores["folder"] / "recipe.yaml"
    assert "=" in str(recipe)
    assert command("train", recipe, "--no-progress")[0] == 0


def test_somebodys_own_method_lies_in_the_working_folder(command, tmp_path):
    (tmp_path / "own_methods.py").write_text(
        "from selfkd.methods.plain import Plain\nclass Mine(Plain):\n    'My own.'\n"
    )
    arguments = ("trainer.epochs=1", "backbone.width=4", "--no-progress", "--json")
    status, output, _ = command("train", RECIPE, "method=own_methods:Mine", *arguments)
    assert status == 0
    (scores,) = json.loads(output)
    assert command("evaluate", scores["folder"])[0] == 2
    assert command("evaluate", scores["folder"], "--trust-imports")[0] == 0


@pytest.mark.slow
def test_without_a_recipe_the_embedded_default_is_compared(selfkd):
    done = selfkd("train", "trainer.epochs=1", "backbone.width=4", "--no-progress")
    assert done.returncode == 0, done.stderr
    accuracy, cost, legend = done.stdout.split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in accuracy.splitlines()]
    assert rows[0][-2:] == ["difference over seeds", "over images"]
    assert [row[:3] for row in rows[2:]] == [
        ["plain", "main", "3"],
        ["dtskd", "main", "3"],
        ["dtskd", "branch1", "3"],
        ["dtskd", "branch2", "3"],
        ["dtskd", "branch3", "3"],
    ]
    assert all("[" in cell for row in rows[3:] for cell in row[-2:]), "every difference has its interval"
    assert len(cost.splitlines()) == 4
    assert legend.count("{seed-0,seed-1,seed-2}") == 2


def test_lists_of_seeds_and_parts_train_several_runs(command, tmp_path, caplog):
    short = (RECIPE, "backbone.width=4", "trainer.epochs=1", "--no-progress")
    for seed in (0, 1):  # each in this process, which is quicker
        assert command("train", *short, f"seed={seed}", "method=plain")[0] == 0
        assert command("train", *short, f"seed={seed}")[0] == 0
    lists = ("seed=0,1", "method=plain,dtskd")
    status, output, _ = command("train", *short, *lists)
    assert status == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines()]
    assert {row[0] for row in rows} >= {"plain", "dtskd"}
    trained = json.loads(command("train", *short, *lists, "--json")[1])
    assert [(run["method"], run["seed"]) for run in trained] == [("plain", 0), ("plain", 1), ("dtskd", 0), ("dtskd", 1)]

    (tmp_path / trained[1]["folder"] / "scores.json").write_text("{")
    status, output, errors = command("train", *short, *lists, "--json")
    assert status == 1
    assert json.loads(output) == [trained[0], *trained[2:]]
    assert "seed 1 is not finished: " in caplog.text
    assert "scores.json cannot be read" in caplog.text
    assert errors == f"selfkd: 1 of 4 runs are not finished: {trained[1]['folder']}\n"

    status, output, _ = command("list", "runs")
    assert output.count("finished") == 3
    table, problems = output.split("\n\n")
    assert table.count("damaged") == 1
    assert problems.count("\n") == 1
    assert problems.startswith(f"{trained[1]['folder']} is damaged: ")
    assert "scores.json cannot be read" in problems
    assert all(output.count(run["folder"]) >= 1 for run in trained)
    listed = json.loads(command("list", "runs", "--runs", "runs", "--json")[1])
    assert [run["state"] for run in listed].count("damaged") == 1
    assert {run["path"] for run in listed} == {run["folder"] for run in trained}


BAD = {
    "recipe": (["train", "dtskd/cifar100/resnet18/dtsk"], "nearest: dtskd/cifar100/resnet18/dtskd"),
    "method": (["train", RECIPE, "method=dtsk"], "unknown method 'dtsk'; nearest: dtskd"),
    "backbone": (["train", RECIPE, "backbone=resnet18_cifr"], "nearest: resnet18_cifar"),
    "key": (["train", RECIPE, "method.beta_mx=0.5"], "nearest: method.beta_max"),
    "type": (["train", RECIPE, "method.beta_max=much"], "method.beta_max must be a number"),
    "range": (
        ["train", RECIPE, "method.beta_max=1.5"],
        "method.beta_max=1.5 is not allowed; method.beta_max must be in [0, 1]",
    ),
    "temperature": (["train", RECIPE, "method.temperature=0"], "temperature=0.0 is not allowed"),
    "weight": (["train", RECIPE, "method.structural_weight=-1"], "structural_weight=-1.0 is not allowed"),
    "epochs": (["train", RECIPE, "trainer.epochs=0"], "trainer.epochs=0 is not allowed"),
    "no root": (["train", "dtskd/cifar100/resnet18/plain"], "data.root is missing; it must be the folder that holds"),
    "bad root": (["train", "dtskd/cifar100/resnet18/plain", "data.root=nowhere"], "nowhere' is not a folder"),
    "nothing to compare": (["compare", "--seeds", "2"], "name a recipe, for example"),
    "a pattern without a recipe": (["compare", "demo/digits/resnet81/*"], "nearest: demo/digits/resnet18/"),
    "a number of seeds": (["compare", RECIPE, "--seeds", "many"], "argument --seeds: must be a number of seeds, or"),
    "no seed": (["compare", RECIPE, "--seeds", "0"], "--seeds=0 is not allowed; --seeds must be"),
    "seeds twice": (["compare", RECIPE, "--seeds", "2", "seed=4"], "give the seeds once"),
    "a baseline": (
        ["compare", RECIPE, "--baseline", "plain"],
        f"--baseline='plain' is not allowed; --baseline must be one of the compared recipes: {RECIPE}",
    ),
    "two trainings": (
        ["compare", RECIPE, "teskd/cifar100/resnet18/teskd"],
        "train differently: data is 'digits' and 'cifar100', optimizer.lr is 0.05 and 0.1",
    ),
    "nothing that is finished": (["compare", RECIPE, "--no-train"], "no run is finished; the first is runs/demo/"),
    "a form": (["compare", RECIPE, "--format", "html"], "invalid choice: 'html'"),
    "an output folder": (["compare", RECIPE, "--no-train", "--output", "."], "--output"),
    "form": (["train", RECIPE, "epochs"], "'epochs' is not an override; after the recipe"),
    "run": (["evaluate", "nowhere"], "nowhere is not a run folder"),
    "image": (["predict", "nowhere", "image.png"], "nowhere is not a run folder"),
    "export": (["export", "nowhere"], "nowhere is not a run folder"),
    "format": (["export", "nowhere", "--format", "pickle"], "invalid choice: 'pickle'"),
    "demo method": (["train", "method=ps_kd"], "method= needs a recipe"),
    "demo name": (["train", "name=mine"], "name= needs a recipe"),
    "two recipes": (
        ["train", RECIPE, "demo/digits/resnet18/plain"],
        f"'demo/digits/resnet18/plain' is not an override; after the recipe {RECIPE!r} write key=value; "
        "'selfkd compare' takes several recipes",
    ),
    "two short names": (["train", RECIPE, "photos/resnet18/plain"], "; 'selfkd compare' takes several recipes"),
    "a recipe and a long text": (["train", RECIPE, "x" * 300], "xx' is not an override; after the recipe"),
    "a folder alone": (
        ["train", "."],
        "'.' is a folder, not a recipe; for the images",
    ),
    "a recipe and a folder": (["train", RECIPE, "."], "; for the images in this folder write data.root=."),
    "flag": (["train", RECIPE, "--faast"], "unrecognized arguments: --faast"),
    "near flag": (["train", RECIPE, "--overwite"], "unrecognized arguments: --overwite; nearest: --overwrite"),
    "near flag of another verb": (["predict", "run", "x.png", "--topp", "2"], "--topp 2; nearest: --top"),
    "option as a flag": (
        ["train", RECIPE, "--epochs", "3"],
        "nearest: trainer.epochs=3 (options are written",
    ),
    "option as a flag with =": (["train", "--lr=0.1"], "nearest: optimizer.lr=0.1 (options"),
    "a number of seeds as a flag": (["train", RECIPE, "--seeds", "3"], "nearest: seed=0,1,2 (options are written"),
    "seeds as a flag": (["train", RECIPE, "--seeds=4,7"], "nearest: seed=4,7 (options are written"),
    "seeds as a key": (["train", RECIPE, "seeds=0,1"], "unknown option 'seeds'; nearest: seed=0,1"),
    "methods as a flag": (["train", RECIPE, "--method", "plain,dtskd"], "nearest: method=plain,dtskd (options"),
    "an empty place in a list": (["train", RECIPE, "seed=0,,1"], "seed='0,,1' is not allowed; write a list with"),
    "a list in brackets": (["train", "seed=[0,1]"], "seed='[0,1]' is not allowed; write a list with commas alone"),
    "a seed in a list": (["train", RECIPE, "seed=0,many"], "seed='many' is not allowed; seed must be a whole number"),
    "a method in a list": (["train", RECIPE, "method=plain,dtsk"], "unknown method 'dtsk'; nearest: dtskd"),
    "a name for several methods": (["train", RECIPE, "method=plain,dtskd", "name=x"], "name='x' is not allowed with"),
    "no jobs": (["train", RECIPE, "--jobs", "0"], "--jobs=0 is not allowed; --jobs must be a whole number >= 1"),
    "runs that are not there": (
        ["list", "runs", "nowhere"],
        "nowhere is not a folder; name the folder that holds the runs (default: runs)",
    ),
    "runs twice": (["list", "runs", "a", "--runs", "b"], "both FOLDER and --runs name a folder of runs, a and b"),
    "a folder of methods": (["list", "methods", "a"], "'selfkd list methods' takes no folder; 'selfkd list runs a'"),
    "verb": (["trian"], "invalid choice: 'trian'"),
    "nothing": ([], ""),
    "an empty folder to check": (["check", ""], "argument DATA: must not be empty ('.' is the current folder)"),
    "an empty folder of runs": (["train", RECIPE, "--runs", ""], "argument --runs: must not be empty"),
    "an empty run to evaluate": (["evaluate", ""], "argument RUN: must not be empty"),
    "an empty run to export": (["export", ""], "argument RUN: must not be empty"),
    "an empty file to export": (["export", "run", "--output="], "argument --output: must not be empty"),
    "an empty run to predict": (["predict", "", "image.png"], "argument RUN: must not be empty"),
    "an empty image": (["predict", "run", "a.png", ""], "argument IMAGE: must not be empty"),
    "an empty image after an option": (["predict", "run", "a.png", "--json", ""], "one of the images is empty"),
    "an empty file to predict": (["predict", "run", "a.png", "--output", ""], "argument --output: must not be empty"),
    "runs that UTF-8 cannot write": (
        ["train", RECIPE, "--runs", "r\udcff"],
        "'r\\udcff' cannot be used; with all folders above it, it must be",
    ),
    "a run that UTF-8 cannot write": (["evaluate", "r\udcff"], "in characters that UTF-8 can write"),
    "somebody's runs": (
        ["train", RECIPE, "--runs", "~nobody-of-this-name/x"],
        "begins with '~' and a name that no user of this machine has",
    ),
    "somebody's home": (["check", "~nobody-of-this-name"], "~nobody-of-this-name cannot be read"),
    "a run too long": (
        ["evaluate", "x" * 300],
        "xxx ... cannot be used; with all folders above it, it must be a path that is short",
    ),
    "runs too long": (
        ["train", RECIPE, "--runs", "a/" * 3000],
        "a/a ... cannot be used; with all folders above it, it must be a path that is short",
    ),
    "an output too long": (
        ["predict", "run", "i.png", "--output", "x" * 300],
        "xxx ... cannot be used; with all folders above it, it must be a path that is short",
    ),
}


def test_the_help_of_train_names_what_can_be_set(command):
    text = command("train", "--help")[1]
    for expected in ("name=", "YAML file", "optimizer=adamw", "schedule=cosine", "trainer.loggers=[csv,tensorboard]"):
        assert expected in text


SLIPS = {
    "an option as a flag": (["train", "--epochs", "3"], "nearest: trainer.epochs=3"),
    "an option as another verb's flag": (["evaluate", "run", "--workers=2"], "nearest: loader.workers=2"),
    "a run to predict with": (
        ["predict", "nosuch", "image.png"],
        "nosuch is not a run folder: it holds no recipe.yaml",
    ),
    "a run to evaluate": (["evaluate", "nosuch"], "nosuch is not a run folder: it holds no recipe.yaml"),
    "a run to export": (["export", "nosuch"], "nosuch is not a run folder: it holds no recipe.yaml"),
    "a data set": (["check", "/nosuch"], "/nosuch is neither a folder, a CSV file nor the name of a data set"),
    "underscores": (["train", RECIPE, "trainer.epochs=1_000"], "trainer.epochs='1_000' is not allowed; write numbers"),
    "leading zeros": (["train", RECIPE, "trainer.epochs=010"], "trainer.epochs='010' is not allowed; write numbers"),
    "colons": (["train", "trainer.epochs=1:30"], "trainer.epochs='1:30' is not allowed; write numbers in plain"),
    "nothing to compare": (
        ["compare"],
        "name a recipe, for example 'demo/digits/resnet18/*'; 'selfkd list recipes' shows",
    ),
    "a key to compare with": (["compare", RECIPE, "trainer.epoch=3"], "nearest: trainer.epochs"),
    "a recipe to compare": (["compare", "demo/digits/resnet18/plane"], "nearest: demo/digits/resnet18/plain"),
    "a seed": (["train", RECIPE, "seed=0x1F"], "seed='0x1F' is not allowed; write numbers in plain decimals"),
}


def test_slips_are_answered_before_torch_is_loaded(tmp_path):
    code = f"""
import sys
from selfkd.cli import main
for kind, (arguments, _) in {SLIPS!r}.items():
    assert main(arguments) == 2, kind
    assert "torch" not in sys.modules, f"{{kind}}: torch was loaded"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    for line, (_, message) in zip(lines, SLIPS.values(), strict=True):
        assert line.startswith("selfkd: ")
        assert message in line


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [(["train", "--epochs", "3"], "selfkd train"), (["trian"], "selfkd"), (["predict"], "selfkd predict")],
)
def test_a_mistake_in_the_arguments_is_one_line_that_says_where_help_is(command, arguments, verb):
    status, said, errors = command(*arguments)
    assert (status, said) == (2, "")
    assert errors.startswith("selfkd: ")
    assert errors.endswith(f"; see '{verb} --help'\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("case", BAD)
def test_a_users_mistake_is_said_in_words_with_status_2(command, case, tmp_path):
    arguments, message = BAD[case]
    status, _, errors = command(*arguments)
    assert status == 2
    assert message in errors
    assert not (tmp_path / "runs").exists(), "nothing is left behind"


def test_a_real_process_ends_with_that_status_and_no_traceback(selfkd):
    done = selfkd("train", RECIPE, "method.beta_max=1.5")
    assert done.returncode == 2
    assert done.stderr.startswith("selfkd: method.beta_max=1.5 is not allowed")
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_named(selfkd, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    done = selfkd("train", RECIPE, *SHORT)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
