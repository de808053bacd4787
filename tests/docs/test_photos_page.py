"""docs/photos.md: its commands work in their order, on cells cut out of real photographs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from selfkd.recipes.files import recipe_names
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.recipes.several import resolve_several

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "photos.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    ((?:selfkd|python) \S.*)$", PAGE, flags=re.MULTILINE)]
SMALL = ["data.image_size=64", "trainer.epochs=2", "schedule.warmup_epochs=1", "loader.batch_size=16"]
PHOTOGRAPHS, IMAGES_OF_A_CLASS = 30, 24
RUN = f"runs/{resolve('photos/resnet18/dtskd', split_overrides(SMALL)).name}/seed-0"


def overrides_of(command):
    return split_overrides([argument for argument in command if re.match(r"[\w.]+=", argument)])


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[1] in ("train", "compare")], ids=" ".join)
def test_every_training_resolves(command):
    names = [argument for argument in command[2:] if argument.startswith("photos/")]
    for recipe in resolve_several(names, overrides_of(command), None):
        assert recipe.name.startswith("photos/folder/") or recipe.name == overrides_of(command)["name"]


def test_the_table_has_the_memory_of_every_recipe():
    header, _, *rows = re.search(r"^\| network \|.*?\n\n", PAGE, flags=re.MULTILINE | re.DOTALL)[0].strip().split("\n")
    columns = [re.findall(r"`(\w+)`", cell) for cell in header.split("|")[3:-1]]
    stated = set()
    for row in rows:
        _, network, _, *cells, _ = (cell.strip() for cell in row.split("|"))
        filled = [methods for methods, cell in zip(columns, cells, strict=True) if re.fullmatch(r"\d+ GB", cell)]
        stated |= {(network.strip("`"), method) for methods in filled for method in methods}
    recipes = {tuple(name.split("/")[2:]) for name in recipe_names() if name.startswith("photos/")}
    assert stated == {(network, method) for network, method in recipes if not method.endswith("-pretrained")}


@pytest.mark.parametrize(("recipe", "page"), [("resnet18", "SGD"), ("convnext_tiny", "AdamW")])
def test_the_table_has_the_learning_rates_of_the_recipes(recipe, page):
    plain, pretrained = resolve_several([f"photos/{recipe}/plain", f"photos/{recipe}/plain-pretrained"], {}, None)
    (stated,) = re.findall(rf"([\d.]+) \({page}\)", PAGE)
    assert plain.options["optimizer"]["lr"] == float(stated)
    assert pretrained.options["optimizer"]["lr"] * 10 == pytest.approx(float(stated))
    assert pretrained.options["optimizer"]["head_lr_factor"] == 10


@pytest.mark.slow
def test_from_a_folder_of_photographs_to_plain_timm(selfkd, bccd_root, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "VOC_FOLDER" / "Annotations").mkdir(parents=True)
    (tmp_path / "VOC_FOLDER" / "JPEGImages").symlink_to(bccd_root / "JPEGImages")
    for file in sorted((bccd_root / "Annotations").glob("*.xml"))[:PHOTOGRAPHS]:
        (tmp_path / "VOC_FOLDER" / "Annotations" / file.name).symlink_to(file)
    done = []
    for program, *arguments in COMMANDS:
        if program == "python":
            script = ROOT / arguments[0]
            subprocess.run([sys.executable, script, *arguments[1:]], cwd=tmp_path, check=True)
            keep_few_images(tmp_path)
            continue
        verb, *rest = [RUN if argument == "RUN" else argument for argument in arguments]
        if "name=trial" in rest:  # the trial itself is tried, only shorter
            rest = [argument for argument in rest if not argument.startswith("trainer.epochs=")] + ["trainer.epochs=1"]
        elif verb in ("train", "compare"):
            rest += SMALL
        if "photos/resnet18/dtskd-pretrained" in rest:
            rest = [argument.replace("FILE", "network") for argument in rest if "pretrained=" not in argument]
            rest += ["backbone.pretrained=false"]
        if verb == "compare":
            rest[rest.index("--seeds") + 1] = "1"
        said = selfkd(verb, *rest)
        assert said.returncode == 0, said.stderr
        done.append(verb)
    assert done == ["check", "train", "train", "train", "compare", "evaluate", "predict", "export", "train"]

    (tmp_path / "deploy.py").write_text(f"{code}\nimport sys\nassert 'selfkd' not in sys.modules\n")
    timm = subprocess.run(
        [sys.executable, "deploy.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    ours = selfkd("predict", RUN, "new/photo.jpg", "--top", "3").stdout
    assert percentages(timm) == percentages(ours)
    assert len(percentages(ours)) == 3


def keep_few_images(folder):
    """Leave a few images of each class, and bring some others into the folder `new`."""
    from PIL import Image

    (folder / "new").mkdir()
    for of_class in sorted((folder / "photos").iterdir()):
        images = sorted(of_class.iterdir())
        with Image.open(images[-1]) as last:
            last.save(folder / "new" / "photo.jpg")
        for image in images[IMAGES_OF_A_CLASS:]:
            image.unlink()


def percentages(text):
    """The classes and their probabilities, as `selfkd predict` or the page's program prints them."""
    return {name: float(number) for name, number in re.findall(r"(\w+):? ([\d.]+) ?%", text)}
