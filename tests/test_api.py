"""The functions for Python users, against the command: both do the same."""

import inspect
import json
import subprocess
import sys
import typing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset

import selfkd
from image_sets import digit, positions_of
from selfkd import api
from selfkd.errors import DataError, OptionError, RecipeError, RunError, UnknownNameError, UserError

PLAIN, DTSKD = (f"demo/digits/resnet18/{method}" for method in ("plain", "dtskd"))
SHORT = {"backbone_width": 4, "trainer_epochs": 2}
WORDS = ("backbone.width=4", "trainer.epochs=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the method plain, trained in Python."""
    return selfkd.train(PLAIN, runs=tmp_path_factory.mktemp("runs"), show_progress=False, **SHORT)


def test_train_gives_the_run_that_the_command_gives(trained, command, tmp_path):
    assert command("train", PLAIN, *WORDS, "--no-progress")[0] == 0
    folder = tmp_path / "runs" / trained.recipe.name / "seed-0"
    ours, theirs = (load_file(path / "model.safetensors") for path in (trained.path, folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    assert trained.is_finished
    assert {**trained.scores, "seconds": None} == {**selfkd.load(folder).scores, "seconds": None}


def test_a_finished_run_is_kept_and_overwritten_when_asked(tmp_path, caplog):
    def train(**options):
        return selfkd.train(PLAIN, runs=tmp_path, show_progress=False, **SHORT, **options)

    caplog.set_level("INFO", "selfkd")
    first = train()
    written = (first.path / "scores.json").stat().st_mtime_ns
    assert train().path == first.path
    assert "is finished" in caplog.text
    assert (first.path / "scores.json").stat().st_mtime_ns == written
    train(overwrite=True)
    assert (first.path / "scores.json").stat().st_mtime_ns > written


def test_a_recipe_may_be_a_file_or_that_of_a_run(trained, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {PLAIN}\nbackbone.width: 4\ntrainer.epochs: 2\n")
    run = selfkd.train(file, runs=str(tmp_path), show_progress=False)
    assert run.path == tmp_path / "mine" / "seed-0"
    assert replace(run.recipe, name=trained.recipe.name) == trained.recipe
    other = selfkd.train(run.recipe, runs=tmp_path, show_progress=False, seed=3)
    assert other.path == tmp_path / "mine" / "seed-3"
    (changed,) = selfkd.resolve_recipes(run.recipe, optimizer_lr=0.5)
    assert changed.name == "mine+optimizer.lr=0.5"
    assert changed.options["optimizer"]["lr"] == 0.5


MISTAKES = {
    "recipe": ((f"{PLAIN}s",), {}),
    "method": ((PLAIN, "method=plane"), {"method": "plane"}),
    "key": ((PLAIN, "trainer.epcohs=3"), {"trainer_epcohs": 3}),
    "key without a section": ((PLAIN, "epochs=3"), {"epochs": 3}),
    "key of a part": ((DTSKD, "method.beta_mx=0.5"), {"method.beta_mx": 0.5}),
    "type": ((DTSKD, "method.beta_max=much"), {"method_beta_max": "much"}),
    "range": ((DTSKD, "method.beta_max=1.5"), {"method_beta_max": 1.5}),
    "number": ((PLAIN, "trainer.epochs=0"), {"trainer_epochs": 0}),
    "root": ((PLAIN, "data=folder", "data.image_size=8", "data.root=nowhere"), None),
}


@pytest.mark.parametrize(("arguments", "keywords"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_answered_as_by_the_command(command, arguments, keywords, tmp_path):
    status, _, said = command("train", *arguments)
    assert status == 2
    if keywords is None:
        keywords = {"data": "folder", "data_image_size": 8, "data_root": tmp_path / "nowhere"}
    with pytest.raises(UserError) as raised:
        selfkd.train(arguments[0], **keywords)
    assert said == f"selfkd: {raised.value}\n"


@pytest.mark.parametrize(
    ("function", "word", "nearest"),
    [
        (selfkd.train, "overwite", "overwrite"),
        (selfkd.train, "run", "runs"),
        (selfkd.train_several, "job", "jobs"),
        (selfkd.train_several, "trust_import", "trust_imports"),
        (selfkd.compare, "base_line", "baseline"),
        (selfkd.resolve_recipes, "seedss", "seeds"),
        (selfkd.check, "quik", "quick"),
    ],
)
def test_a_misspelt_argument_is_no_option(function, word, nearest):
    with pytest.raises(UnknownNameError, match=f"unknown argument '{word}'; nearest: {nearest}; help.selfkd"):
        function("digits" if function is selfkd.check else PLAIN, **{word: True})
    for option in ("epochs", "seeed"):
        with pytest.raises(UnknownNameError, match=f"unknown option '{option}'"):
            selfkd.train(PLAIN, **{option: 3})


def test_a_path_may_begin_with_the_home_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").symlink_to(trained.path)
    photos = tmp_path / "photos" / "3"
    photos.mkdir(parents=True)
    digit(positions_of(3, 1)[0]).save(photos / "0.png")
    (tmp_path / "mine.yaml").write_text(f"include: {PLAIN}\n")
    assert selfkd.load("~/run").class_names == trained.class_names
    assert selfkd.load_method("~/run").num_classes == 10
    assert selfkd.evaluate("~/run", data="~/photos").images == 1
    assert trained.evaluate(data=Path("~/photos")).images == 1
    assert selfkd.resolve_recipes("~/mine.yaml")[0].name == "mine"
    for function in (selfkd.load, selfkd.load_method, selfkd.evaluate):
        with pytest.raises(RunError, match="~nobody-here/run is not a run folder"):
            function("~nobody-here/run")
    with pytest.raises(DataError, match="~nobody-here is not a folder"):
        trained.evaluate(data="~nobody-here")


def test_a_misspelt_argument_of_an_evaluation(trained):
    for evaluate in (trained.evaluate, partial(selfkd.evaluate, trained.path)):
        with pytest.raises(UnknownNameError, match=r"argument 'checkpont'; nearest: checkpoint; help.selfkd.*evaluate"):
            evaluate(checkpont="best")
    with pytest.raises(UnknownNameError, match="unknown argument 'head'; nearest: heads"):
        selfkd.compare_runs(trained, head="all")


@pytest.mark.parametrize(
    ("recipe", "keywords"),
    [
        (PLAIN, {"seed": [0, 1]}),
        (PLAIN, {"method": "plain,dtskd"}),
        (PLAIN, {"method": ["plain", "dtskd"]}),
        ("demo/digits/resnet18/*", {}),
    ],
)
def test_train_takes_one_run(recipe, keywords, tmp_path):
    with pytest.raises(RecipeError, match=r"the arguments name \d runs, .* train takes one, train_several takes sev"):
        selfkd.train(recipe, runs=tmp_path, **keywords)
    assert not list(tmp_path.iterdir())


def test_recipes_are_resolved_as_lists_and_demo():
    recipes = selfkd.resolve_recipes(PLAIN, seeds=2, method=["plain", "dtskd"], trainer_epochs=3)
    assert [(recipe.parts["method"], recipe.seed) for recipe in recipes] == [
        *(("plain", 0), ("plain", 1), ("dtskd", 0), ("dtskd", 1))
    ]
    assert recipes == selfkd.resolve_recipes([PLAIN], seed="0,1", method="plain,dtskd", **{"trainer.epochs": "3"})
    demo = selfkd.resolve_recipes(trainer_epochs=3)
    assert [(recipe.parts["method"], recipe.seed) for recipe in demo] == [
        (method, seed) for method in ("plain", "dtskd") for seed in (0, 1, 2)
    ]
    assert {recipe.seed for recipe in selfkd.resolve_recipes(seeds=[7])} == {7}
    with pytest.raises(OptionError, match="seeds=0 is not allowed"):
        selfkd.resolve_recipes(PLAIN, seeds=0)
    with pytest.raises(RecipeError, match=r"seed=\[\] is not allowed"):
        selfkd.resolve_recipes(PLAIN, seed=[])


def test_every_function_takes_a_recipe_as_a_path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {PLAIN}\n")
    named = [each.name for each in selfkd.resolve_recipes([file, PLAIN])]
    assert named == ["mine", PLAIN]
    assert selfkd.resolve_recipes(file) == selfkd.resolve_recipes(str(file)) == selfkd.resolve_recipes([file])
    for function in (selfkd.train_several, selfkd.compare, selfkd.train):
        with pytest.raises(UnknownNameError, match="unknown option 'epochs'"):
            function(file, runs=tmp_path, epochs=3)


@pytest.mark.parametrize("wrong", [3, [3], [None], {"a": 1}.values(), digit])
def test_what_is_no_recipe_is_named(wrong, tmp_path):
    for function in (selfkd.resolve_recipes, selfkd.train_several, selfkd.compare, selfkd.train):
        with pytest.raises(RecipeError, match="is not a recipe; give the name of a recipe, the path of a YAML file"):
            function(wrong)
    for function in (selfkd.compare, selfkd.train):
        with pytest.raises(RecipeError, match="None is not a recipe"):
            function(None)


def test_what_is_no_path_and_no_run_is_named(trained):
    with pytest.raises(UserError, match=r"an object of type Digits cannot be checked; give a folder, a CSV file"):
        selfkd.check(Digits())
    for function in (selfkd.load, selfkd.evaluate, api.export_run, selfkd.list_runs):
        with pytest.raises(UserError, match=r"is not a path; give a text or a pathlib\.Path"):
            function(trained)
    for wrong in (["runs/x"], "runs/x", None, [trained.path]):
        with pytest.raises(UserError, match=r"is not a run; give what train, train_several or load\(folder\) returned"):
            selfkd.compare_runs(wrong)
    with pytest.raises(UserError, match="'runs/x' is not a run"):
        selfkd.compare_runs("runs/x")
    with pytest.raises(UserError, match="there is no run to compare"):
        selfkd.compare_runs([])


def test_a_run_that_exists_is_compared_with_options_of_the_machine_alone(trained):
    assert selfkd.compare_runs([trained], loader_workers=0) == selfkd.compare_runs(trained)
    with pytest.raises(RecipeError, match=r"trainer\.epochs cannot change in runs that exist"):
        selfkd.compare_runs(trained, trainer_epochs=99, loader_workers=0)


def test_several_runs_are_trained_and_compared(trained, tmp_path, command):
    runs = trained.path.parents[len(trained.recipe.name.split("/"))]
    other = selfkd.train(PLAIN, method="dtskd", runs=runs, show_progress=False, **SHORT)  # quicker than by a process
    outcomes = selfkd.train_several(PLAIN, method=["plain", "dtskd"], runs=runs, show_progress=False, **SHORT)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.run for outcome in outcomes] == [trained, other]
    tables = selfkd.compare_runs([trained, other], heads="main")
    assert [row.head for row in tables.rows] == ["main", "main"]
    assert tables == selfkd.compare_runs(outcomes, heads="main")
    compared = selfkd.compare(PLAIN, seeds=[0], method=["plain", "dtskd"], runs=runs, show_progress=False, **SHORT)
    assert compared == tables
    arguments = ("compare", PLAIN, "method=plain,dtskd", *WORDS, "--seeds", "0,", "--runs", runs, "--no-train")
    assert (
        command(*arguments)[1]
        == selfkd.compare(PLAIN, seeds=[0], method="plain,dtskd", runs=runs, train=False, **SHORT).to_markdown() + "\n"
    )


class Digits(Dataset):
    """Twelve real digits of each of three classes."""

    classes = ("zero", "one", "two")

    def __init__(self):
        self.samples = [(digit(each, side=16), label) for label in range(3) for each in positions_of(label, 12)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def test_a_dataset_trains_in_this_process_and_is_given_again_to_continue(tmp_path, command):
    options = {"name": "own", "data_image_size": 16, "loader_workers": 0, "runs": tmp_path, "show_progress": False}
    digits = Digits()
    run = selfkd.train(PLAIN, data=digits, **options, **SHORT)
    assert run.class_names == digits.classes
    assert run.evaluate().images == 8, "a part of the images is held out"
    assert run.evaluate(data=digits).images == 36
    assert [each.images for each in run.evaluate(data=[digits, digits])] == [36, 36]
    assert run.predict([image for image, _ in digits.samples])[0].label in digits.classes
    assert selfkd.train(run.recipe, runs=tmp_path, show_progress=False) == run, "its recipe has the object"
    loaded = selfkd.load(run.path)
    assert loaded.predict(digits[0][0]) == run.predict(digits[0][0])
    assert loaded.export() == run.export()
    with pytest.raises(DataError, match=r"needs the Dataset object, .*selfkd.load\(RUN, data=DATASET\).evaluate\(\)"):
        loaded.evaluate()
    again = selfkd.load(run.path, data=Digits())
    assert again.evaluate("train") == run.evaluate("train")
    assert again.evaluate(keep_logits=True) == run.evaluate()
    for wrong in ("digits", tmp_path):
        with pytest.raises(RecipeError, match="give the Dataset object that the run was trained on|is a path"):
            selfkd.load(run.path, data=wrong)


def test_a_dataset_is_given_back_only_to_a_run_on_one(trained):
    with pytest.raises(RecipeError, match=r"trained on data=digits, not on a Dataset object; leave data out"):
        selfkd.load(trained.path, data=Digits())


def test_other_processes_get_no_dataset(tmp_path):
    for function in (selfkd.train_several, selfkd.compare, selfkd.resolve_recipes):
        with pytest.raises(UserError, match=r"several runs, .* data='package.module:Class', or call train"):
            function(PLAIN, data={"train": Digits()})
    with pytest.raises(RecipeError, match="a Dataset object is in the memory of this process alone"):
        selfkd.train(PLAIN, data=Digits(), runs=tmp_path, trainer_devices=2, trainer_accelerator="cpu")


def test_a_path_is_no_data_set(tmp_path, command, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, str(tmp_path), "photos", "~/nowhere", [tmp_path], ["digits", tmp_path]):
        for function in (selfkd.train, selfkd.train_several, selfkd.compare, selfkd.resolve_recipes):
            with pytest.raises(RecipeError, match=r"is a path, not the name of a data set; write data=folder"):
                function(PLAIN, data=path)
    with pytest.raises(RecipeError, match="write data=csv, and give the path as data.root"):
        selfkd.train(PLAIN, data=tmp_path / "photos.csv")
    status, _, said = command("train", PLAIN, "data=photos")
    assert (status, "write data=folder, and give the path as data.root" in said) == (2, True)


def test_an_empty_mapping_is_no_data_and_a_list_of_names_is_several_runs():
    for function in (selfkd.train, selfkd.train_several):
        with pytest.raises(RecipeError, match="data={} is empty; it must map the names of splits"):
            function(PLAIN, data={})
    with pytest.raises(RecipeError, match="the arguments name 2 runs"):
        selfkd.train(PLAIN, data=["digits", "cifar10"])
    assert [each.parts["data"] for each in selfkd.resolve_recipes(PLAIN, data=("digits", "cifar10"))] == [
        "digits",
        "cifar10",
    ]


def test_lists_are_those_of_the_command(trained, command):
    lists = (api.list_backbones, api.list_recipes, api.list_datasets)
    for kind, listed in zip(("backbones", "recipes", "datasets"), lists, strict=True):
        assert json.loads(command("list", kind, "--json")[1]) == listed()
    methods = {name: method.to_json() for name, method in selfkd.list_methods().items()}
    assert json.loads(command("list", "methods", "--json")[1]) == json.loads(json.dumps(methods))
    (run,) = selfkd.list_runs(trained.path)
    assert run.state == "finished"
    assert [run.to_json()] == json.loads(command("list", "runs", trained.path, "--json")[1])
    with pytest.raises(RunError, match="is not a folder"):
        selfkd.list_runs("nowhere")


def test_check_reports_what_the_command_reports(command, tmp_path):
    (tmp_path / "photos" / "train" / "a").mkdir(parents=True)
    report = selfkd.check(tmp_path / "photos", quick=True, data_image_size=8)
    assert report.errors
    status, text, _ = command("check", tmp_path / "photos", "--quick", "data.image_size=8")
    assert (status, text) == (1, report.text() + "\n")
    assert selfkd.check("digits", quick=True, backbone="resnet18_cifar").errors == ()
    with pytest.raises(DataError, match="neither a folder, a CSV file nor the name of a data set"):
        selfkd.check("nowhere")


def test_evaluation_and_export_are_those_of_the_command(trained, command, caplog):
    evaluation = selfkd.evaluate(trained.path, loader_evaluation_batch_size=50)
    assert command("evaluate", trained.path)[1] == selfkd.evaluation_report(evaluation) + "\n"
    status, _, said = command("evaluate", trained.path, "data=cifar10")
    assert (status, said.startswith("selfkd: data cannot change in a run that exists")) == (2, True)
    caplog.set_level("INFO", "selfkd")
    path = trained.export()
    assert f"{path}: its logits equal the trained network's; the largest difference is " in caplog.text
    said = json.loads(command("export", trained.path, "--json")[1])
    assert said["file"] == str(path)
    assert said["largest_difference"] <= 1e-6


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (selfkd.train, ["recipe"]),
        (selfkd.train_several, ["recipes"]),
        (selfkd.compare, ["recipes", "seeds"]),
        (selfkd.compare_runs, ["trained"]),
        (selfkd.resolve_recipes, ["recipes"]),
        (selfkd.evaluate, ["run", "split", "checkpoint"]),
        (selfkd.load, ["run", "checkpoint"]),
        (selfkd.load_method, ["run", "checkpoint"]),
        (selfkd.check, ["data"]),
        (selfkd.Run.predict, ["self", "images", "top"]),
        (selfkd.Run.predict_each, ["self", "images", "top"]),
        (selfkd.Run.evaluate, ["self", "split", "checkpoint"]),
        (selfkd.Run.export, ["self", "output"]),
    ],
)
def test_what_is_not_clear_by_its_place_has_a_keyword(function, positional):
    parameters = inspect.signature(function).parameters.values()
    assert [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)] == (
        positional
    )


@pytest.mark.parametrize("function", [selfkd.evaluate, selfkd.Run.evaluate])
def test_the_overloads_name_every_argument(function):
    names = list(inspect.signature(function).parameters)
    overloads = typing.get_overloads(inspect.unwrap(function))
    assert overloads
    assert all(list(inspect.signature(each).parameters) == names for each in overloads)


def test_a_missing_run_is_named():
    for function in (selfkd.load, selfkd.evaluate, api.export_run):
        with pytest.raises(RunError, match="nowhere is not a run folder"):
            function("nowhere")
    with pytest.raises(UnknownNameError, match="nearest: demo/digits/resnet18/plain"):
        selfkd.compare("demo/digits/resnet18/plane")


SCRIPT = f"""
import logging
import selfkd
run = selfkd.train({PLAIN!r}, show_progress=False, backbone_width=4, trainer_epochs=1)
assert not logging.getLogger().handlers and not logging.getLogger("selfkd").handlers
logging.basicConfig(level=logging.WARNING)
selfkd.train({PLAIN!r}, show_progress=False, backbone_width=4, trainer_epochs=1)
logging.getLogger().setLevel(logging.INFO)
selfkd.train({PLAIN!r}, show_progress=False, backbone_width=4, trainer_epochs=1)
"""


@pytest.mark.slow
def test_a_script_sees_the_log_and_keeps_its_own_logging(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert "train: 100 images" in done.stderr
    assert sum("epoch 1/1" in line for line in lines) == 1
    assert sum("is finished" in line for line in lines) == 1, "the second time only warnings are asked for"
    assert lines[-1].startswith("INFO:selfkd:")


def test_recipe_help_takes_a_name_and_a_resolved_recipe():
    (resolved,) = api.resolve_recipes(PLAIN, method="dtskd")
    text = selfkd.recipe_help(PLAIN, method="dtskd")
    assert text == selfkd.recipe_help(resolved)
    assert "method=dtskd" in text
    with pytest.raises(UnknownNameError, match="unknown recipe"):
        selfkd.recipe_help("photos/resnet18/plane")


def test_the_functions_import_no_torch():
    code = "import sys, selfkd.api as api; api.list_recipes(); api.list_runs('.'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
