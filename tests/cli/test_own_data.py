"""The command on data of the user's own: a CSV file, and a class in the working folder."""

import json
import shutil

import pytest

import own_datasets
from image_sets import write_folder

SHORT = ("data.image_size=16", "backbone.width=4", "trainer.epochs=1", "loader.workers=0", "--no-progress", "--json")
RECIPE = "demo/digits/resnet18/plain"


@pytest.fixture(autouse=True)
def images(tmp_path):
    """Images, a CSV file and a class that reads the images, in the folder in which the command runs."""
    write_folder(tmp_path / "images" / "train", 6)
    write_folder(tmp_path / "images" / "test", 3, start=6)
    shutil.copy(own_datasets.__file__, tmp_path / "my_own.py")
    files = sorted(tmp_path.rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name},{file.parent.parent.name}" for file in files]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]))


def test_a_class_of_ones_own_is_checked_trained_and_evaluated(command):
    data = ("data=my_own:LikeTorchvision", "data.root=images")
    status, text, _ = command("check", "my_own:LikeTorchvision", "data.root=images")
    assert (status, "data set my_own:LikeTorchvision" in text) == (0, True)
    assert "data.root=images data=my_own:LikeTorchvision data.image_size=..." in text
    status, output, _ = command("train", RECIPE, *data, *SHORT)
    assert status == 0
    (scores,) = json.loads(output)
    assert scores["splits"]["test"]["images"] == 9
    run = scores["folder"]
    assert command("predict", run, "images/test/digit 1")[0] == 2, "the import is not trusted yet"
    assert command("predict", run, "images/test/digit 1", "--trust-imports")[0] == 0
    assert command("evaluate", run, "--trust-imports")[0] == 0
    assert command("train", f"{run}/recipe.yaml", *SHORT[3:])[0] == 2
    assert command("train", f"{run}/recipe.yaml", data[0], *SHORT[3:])[0] == 0


def test_a_file_that_is_not_trusted_is_not_imported(command, tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"include: {RECIPE}\ndata: harmful:Data\n")
    (tmp_path / "harmful.py").write_text("raise SystemExit('it was imported')")
    status, _, errors = command("train", "recipe.yaml")
    assert (status, "names the data 'harmful:Data', whose import runs code" in errors) == (2, True)


def test_a_csv_file_is_checked_and_trained(command, tmp_path):
    status, text, _ = command("check", "labels.csv")
    assert (status, "labels.csv looks like a CSV file of image paths and labels (data=csv)" in text) == (0, True)
    assert command("train", RECIPE, "data=csv", "data.root=labels.csv", *SHORT)[0] == 0
    (tmp_path / "images" / "train" / "digit 0" / "0.png").unlink()
    assert command("check", "labels.csv")[0] == 1
    status, _, errors = command("train", RECIPE, "data=csv", "data.root=labels.csv", *SHORT, "name=other")
    assert (status, "images/train/digit 0/0.png" in errors) == (2, True)


def test_several_folders_are_evaluated(command):
    arguments = ("data=csv", "data.root=labels.csv", *SHORT)
    (scores,) = json.loads(command("train", RECIPE, *arguments)[1])
    others = ("--data", "images/train", "--data", "labels.csv")
    status, output, _ = command("evaluate", scores["folder"], *others, "--json")
    assert status == 0
    assert [(each["data"], sum(each["images_per_class"])) for each in json.loads(output)] == [
        ("images/train", 18),
        ("labels.csv", 9),
    ]
    assert json.loads(command("evaluate", scores["folder"], *others[:2], "--json")[1])["data"] == "images/train"
    text = command("evaluate", scores["folder"], *others)[1]
    assert text.startswith("## folder images/train\n\n")
    assert "\n\n## CSV file labels.csv\n\n" in text
