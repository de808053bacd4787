import csv
import io
import json
import shutil
import sys

import pytest
import torch

from image_sets import digit, write_folder
from selfkd.cli import main
from selfkd.errors import CheckpointError, shown
from selfkd.recipes.reader import resolve
from selfkd.runs.prediction import Prediction
from selfkd.runs.run import Run
from selfkd.runs.train import run
from selfkd.training import threads

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
    assert [line for line in lines if line.startswith("selfkd: gone.png: there is no such file or folder")]
    assert "selfkd: nothing*.jpg: no file matches this pattern" in lines
    assert lines[-1] == (
        "selfkd: 3 of 6 images could not be read, and some folders or patterns could not be listed (see above); "
        "3 images were labelled"
    )


def test_problems_of_folders_are_not_counted_as_images(hostile_run, command, images):
    (images / "system").symlink_to("/sys")
    status, text, errors = command("predict", hostile_run, "photos", "--csv")
    assert status == 1
    assert len([*csv.DictReader(io.StringIO(text))]) == 4
    assert errors.splitlines()[-2:] == [
        "selfkd: photos/system is not listed: /proc and /sys hold no files of a disk",
        "selfkd: some folders or patterns could not be listed (see above); 4 images were labelled",
    ]
    (images / "1.png").write_text("text")
    _, _, errors = command("predict", hostile_run, "photos/1.png", "photos/0.png")
    assert errors.splitlines()[-1] == "selfkd: 1 of 2 images could not be read (see above); 1 images were labelled"


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
    assert errors == (
        f"selfkd: --output={shown(str(kept))} is not allowed; --output must be a file that does not exist yet; "
        "--overwrite replaces this one\n"
    )
    assert kept.read_text() == "somebody's"
    assert command(*arguments, kept, "--overwrite")[0] == 0
    assert kept.read_text().startswith("image,rank,label,probability\n")
    for place in ("/dev/null", images):
        status, _, errors = command(*arguments, place, "--overwrite")
        assert status == 2
        assert "must be an ordinary file" in errors


def test_an_output_replaces_nothing_of_a_run(hostile_run, command, tmp_path):
    copied = shutil.copytree(hostile_run, tmp_path / "run")
    (tmp_path / "link.csv").symlink_to(copied / "recipe.yaml")
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    places = (copied / "recipe.yaml", copied / "model.safetensors", copied / "checkpoints" / "new.csv", "link.csv")
    for place in places:
        status, text, errors = command("predict", copied, "photos", "--output", place, "--overwrite")
        assert (status, text) == (2, "")
        assert f"--output={shown(str(place))} is not allowed; it lies in the run folder" in errors
        assert {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()} == before
    assert command("predict", copied, "photos", "--output", copied / "export" / "labels.txt")[0] == 0


def test_an_output_that_is_a_link_is_written_where_it_leads(hostile_run, command, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "labels.csv")
    assert command("predict", hostile_run, "photos", "--csv", "--output", "link.csv")[0] == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "labels.csv").read_text().startswith("image,rank,label,probability\n")


def test_an_output_is_whole_or_not_there(hostile_run, command, images, monkeypatch):
    def breaks_off(run, images, top, batch_size, report):
        yield Prediction("0.png", ())
        raise CheckpointError("its weights are damaged")

    monkeypatch.setattr(Run, "predict_each", breaks_off)
    status, _, errors = command("predict", hostile_run, "photos", "--output", "labels.txt")
    assert status == 1
    assert "its weights are damaged" in errors
    assert not list(images.parent.glob("labels*"))


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [("--batch-size", 0, ">= 1 and at most 65536"), ("--top", 3, ">= 1 and at most 2")],
)
def test_an_option_is_named_as_it_was_typed(hostile_run, command, flag, value, allowed):
    status, _, errors = command("predict", hostile_run, "photos", flag, value)
    assert status == 2
    assert errors == f"selfkd: {flag}={value} is not allowed; {flag} must be a whole number {allowed}\n"


def test_more_threads_than_cores_advise_what_predict_takes(hostile_run, command, monkeypatch, caplog):
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert command("predict", hostile_run, "photos")[0] == 0
    assert "2 threads are more than the 1 cores" in caplog.text
    assert "set OMP_NUM_THREADS=1" in caplog.text
    assert "trainer.threads" not in caplog.text
