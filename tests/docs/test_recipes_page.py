"""docs/recipes.md: every command and file on it works as it stands there."""

import inspect
import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from selfkd.errors import RecipeError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import MACHINE
from selfkd.recipes.several import resolve_several
from selfkd.supervision import SUPERVISIONS
from selfkd.training import OPTIMIZERS, SCHEDULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
PHOTOS, MIXED = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^    selfkd train (\S.*)$", PAGE, flags=re.MULTILINE)
FIRST_OVERRIDDEN = next(command for command in COMMANDS if "trainer.epochs=15" in command)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the page's commands name, in the folder where they are started."""
    monkeypatch.chdir(tmp_path)
    Path("photos.yaml").write_text(PHOTOS)
    Path("mixed.yaml").write_text(MIXED)
    run = Path("runs/dtskd/cifar100/resnet18/dtskd/seed-0")
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(resolve("dtskd/cifar100/resnet18/dtskd").to_yaml())


def all_resolved(command):
    """The recipes of a command's arguments, its flags apart."""
    name, *rest = shlex.split(command, comments=True)
    overrides = split_overrides([argument for argument in rest if re.match(r"[\w.]+=", argument)])
    return resolve_several([name], overrides, None)


def resolved(command):
    (recipe,) = all_resolved(command)
    return recipe


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_resolves(command, files):
    several = "seed=0,1,2" in command
    assert (len(all_resolved(command)) > 1) == several


def test_the_example_in_python_trains_what_it_says(monkeypatch, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    calls = []
    monkeypatch.setattr("selfkd.runs.several.train_several", lambda *arguments: calls.append(arguments))
    (tmp_path / "example.py").write_text(example)
    runpy.run_path(str(tmp_path / "example.py"))
    ((recipes, runs, jobs, *_),) = calls
    assert [(recipe.parts["method"], recipe.seed) for recipe in recipes] == [
        (method, seed) for method in ("plain", "dtskd") for seed in range(3)
    ]
    assert (runs, jobs) == (Path("runs"), 2)


def test_an_option_has_no_list(files):
    (option,) = re.findall(r"`(\S+)` is an error", PAGE)
    with pytest.raises(RecipeError, match="optimizer.lr must be a number"):
        all_resolved(f"demo/digits/resnet18/plain {option}")


def test_names_are_what_the_page_says(files):
    assert f"`{resolved(FIRST_OVERRIDDEN).name}`" in PAGE
    assert resolved(next(command for command in COMMANDS if "name=short" in command)).name == "short"
    assert resolved("photos.yaml").name == "photos"


def test_a_file_replaces_parts_with_their_options(files):
    flat = resolved("photos.yaml").flat()
    assert flat["data.root"] == str(Path("photos").resolve())
    assert (flat["optimizer.lr"], flat["schedule"], flat["trainer.epochs"]) == (0.001, "cosine", 50)
    assert flat["data.train_per_class"] is None, "that of digits is gone"
    mixed = resolved("mixed.yaml").flat()
    assert (mixed["trainer.epochs"], mixed["backbone"], mixed["method"]) == (200, "resnet34_cifar", "dtskd")


def test_every_key_of_the_machine_is_named():
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGE)) >= MACHINE


@pytest.mark.parametrize("catalogue", [OPTIMIZERS, SCHEDULES, SUPERVISIONS], ids=lambda catalogue: catalogue.kind)
def test_every_part_of_a_small_table_stands_there_with_its_defaults(catalogue):
    for name in catalogue:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        given = re.findall(r"`(\w+)` (\[.*?\]|[^,|\s]+)", row.rstrip("| ").rpartition("|")[2])
        parameters = inspect.signature(catalogue.load(name)).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        for option, value in given:
            default = defaults.pop(option)
            if isinstance(default, str):
                assert value == default
            else:
                assert json.loads(value) == (list(default) if isinstance(default, tuple) else default)
        assert not defaults, "each option is named"
