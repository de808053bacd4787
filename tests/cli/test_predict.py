import csv
import io
import json
import sys

import pytest

from image_sets import digit, write_folder
from selfkd.cli import main
from selfkd.errors import CheckpointError
from selfkd.recipes.reader import resolve
from selfkd.runs import prediction
from selfkd.runs.experiment import run

RED, FORGED = "\x1b[31mred", "blue\nselfkd: all is well"


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """A run whose class names hold an escape and a line break, as one that was downloaded may."""
    root = tmp_path_factory.mktemp("data")
    write_folder(root, 6, digits=range(2))
    for number, name in enumerate((RED, FORGED)):
        (root / f"digit {number}").rename(root / name)
    overrides = {
        "name": "hostile",
        "data": "folder",
        "data.root": str(root),
        "data.image_size": 16,
        "backbone.width": 4,
        "trainer.epochs": 1,
        "loader.batch_size": 4,
    }
    recipe = resolve("demo/digits/resnet18/plain", overrides)
    return run(recipe, tmp_path_factory.mktemp("runs"), show_progress=False).path


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for position in range(3):
        digit(position).save(tmp_path / "photos" / f"{position}.png")
    digit(3).save(tmp_path / "photos" / "\x1b[2J\n.png")
    return tmp_path / "photos"


@pytest.fixture
def command(images, capsys):
    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def test_names_cannot_harm_a_terminal(hostile_run, command):
    status, text, _ = command("predict", hostile_run, "photos", "--top", "2")
    assert status == 0
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(r"photos/\x1b[2J\n.png: ")
    assert all(r"\x1b[31mred" in line and r"blue\nselfkd: all is well" in line for line in lines)
    assert "\x1b" not in text


def test_json_and_csv_hold_the_names_as_they_are(hostile_run, command, images):
    _, text, _ = command("predict", hostile_run, "photos", "--top", "2", "--json")
    predictions = json.loads(text)
    assert [each["image"] for each in predictions][1:] == [f"photos/{n}.png" for n in range(3)]
    assert {each["label"] for each in predictions[0]["classes"]} == {RED, FORGED}
    status, text, _ = command("predict", hostile_run, "photos", "--top", "2", "--csv", "--output", "out/labels.csv")
    assert (status, text) == (0, "")
    with (images.parent / "out" / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert rows[0]["image"] == "photos/\x1b[2J\n.png"
    assert [row["rank"] for row in rows] == ["1", "2"] * 4
    assert {rows[0]["label"], rows[1]["label"]} == {RED, FORGED}
    assert [float(row["probability"]) for row in rows] == [
        each["probability"] for prediction in predictions for each in prediction["classes"]
    ]


def test_csv_is_exact_in_a_pipe_and_escaped_on_a_terminal(hostile_run, command, images, monkeypatch):
    name = "a\u3000b\u00a0c\u200d\x1b\r\n.png"
    digit(4).save(images / name)
    arguments = ("predict", hostile_run, f"photos/{name}", "--top", "2", "--csv")
    rows = list(csv.DictReader(io.StringIO(command(*arguments)[1], newline="")))
    assert {row["image"] for row in rows} == {f"photos/{name}"}
    assert {row["label"] for row in rows} == {RED, FORGED}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = command(*arguments)[1].splitlines()
    assert len(lines) == 3
    assert all(line.startswith(r"photos/a\u3000b\xa0c\u200d\x1b\r\n.png,") for line in lines[1:])
    assert any(r",blue\nselfkd: all is well," in line for line in lines)


def test_a_bad_image_is_named_and_the_others_are_labelled(hostile_run, command, images):
    (images / "1.png").write_text("text")
    (images / "bad\n\x1b[2J.png").write_text("text")
    status, text, errors = command("predict", hostile_run, "photos", "gone.png", "nothing*.jpg", "--json")
    assert status == 1
    assert [each["image"][-5:] for each in json.loads(text)] == ["\n.png", "0.png", "2.png"]
    lines = errors.splitlines()
    assert [line for line in lines if line.startswith("selfkd: photos/1.png: not readable as an image")]
    assert "  \\x1b[2J.png: not readable as an image" in lines
    assert [line for line in lines if line.startswith("selfkd: gone.png: not readable as an image")]
    assert "selfkd: nothing*.jpg: no file matches this pattern" in lines
    assert lines[-1] == "selfkd: 4 could not be read, as said above; 3 images were labelled"


def test_json_of_no_image_is_an_empty_list(hostile_run, command):
    status, text, _ = command("predict", hostile_run, "gone.png", "--json")
    assert status == 1
    assert json.loads(text) == []


def test_images_may_follow_an_option(hostile_run, command):
    _, text, _ = command("predict", hostile_run, "photos/0.png", "--top", "1", "photos/1.png", "--csv")
    assert [row["image"] for row in csv.DictReader(io.StringIO(text))] == ["photos/0.png", "photos/1.png"]


def test_an_output_replaces_nothing_unasked(hostile_run, command, images):
    kept = images.parent / "labels.csv"
    kept.write_text("somebody's")
    arguments = ("predict", hostile_run, "photos", "--csv", "--output")
    status, _, errors = command(*arguments, kept)
    assert status == 2
    assert "--output" in errors
    assert "unless --overwrite is given" in errors
    assert kept.read_text() == "somebody's"
    assert command(*arguments, kept, "--overwrite")[0] == 0
    assert kept.read_text().startswith("image,rank,label,probability\n")
    for place in ("/dev/null", images):
        status, _, errors = command(*arguments, place, "--overwrite")
        assert status == 2
        assert "must be a regular file" in errors


def test_an_output_is_whole_or_not_there(hostile_run, command, images, monkeypatch):
    def breaks_off(run, images, top, batch_size, report):
        yield {"image": "0.png", "classes": []}
        raise CheckpointError("its weights are damaged")

    monkeypatch.setattr(prediction, "predict", breaks_off)
    status, _, errors = command("predict", hostile_run, "photos", "--output", "labels.txt")
    assert status == 1
    assert "its weights are damaged" in errors
    assert not list(images.parent.glob("labels*"))
