import os
from pathlib import Path

import pytest
import torch
from PIL import Image

import selfkd
from image_sets import digit
from selfkd.errors import CheckpointError, DataError, MemoryExhaustedError, OptionError
from selfkd.recipes.reader import resolve
from selfkd.runs.prediction import images_of, predict
from selfkd.runs.train import run


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    overrides = {"backbone.width": 4, "trainer.epochs": 1, "data.train_per_class": 2}
    recipe = resolve("demo/digits/resnet18/plain", overrides)
    return selfkd.load(run(recipe, tmp_path_factory.mktemp("runs"), show_progress=False).path)


@pytest.fixture
def photos(tmp_path):
    """Ten digits in a folder and its sub-folders."""
    root = tmp_path / "photos"
    for position in range(10):
        place = root / ("b" if position % 2 else "a") / f"{position}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        digit(position).save(place)
    (root / "notes.txt").write_text("no image")
    return root


def test_folders_patterns_and_files_in_the_order_given(photos, monkeypatch):
    def named(*names):
        return [path.as_posix() for path in images_of(names)]

    monkeypatch.chdir(photos.parent)
    whole = [f"photos/a/{n}.png" for n in (0, 2, 4, 6, 8)] + [f"photos/b/{n}.png" for n in (1, 3, 5, 7, 9)]
    assert named("photos") == whole
    assert named("photos/b", "photos/a/4.png") == [*whole[5:], "photos/a/4.png"]
    assert named("photos/**/[0-3].png") == ["photos/a/0.png", "photos/a/2.png", "photos/b/1.png", "photos/b/3.png"]
    assert named("photos/[ab]") == whole, "a pattern of folders"
    (photos / "notes.txt").unlink()
    assert named("photos/**") == whole, "each once, though their folders match, too"
    (photos / "notes.txt").write_text("no image")
    assert named("photos/notes.txt") == ["photos/notes.txt"], "a file that is named is taken as it is"
    (photos / "c[1].png").write_bytes((photos / "a" / "0.png").read_bytes())
    assert named("photos/c[1].png") == ["photos/c[1].png"], "a name with brackets that exists is no pattern"


def test_a_name_without_an_image_is_reported_and_the_others_go_on(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    problems = []
    names = [str(tmp_path / "empty"), str(tmp_path / "*.tif"), str(photos / "a")]
    assert list(images_of(["x" * 300])) == [Path("x" * 300)], "too long to exist, so reading it will fail"
    assert len(list(images_of(names, problems.append))) == 5
    assert [str(problem).rpartition(": ")[2] for problem in problems] == [
        "a folder without an image file",
        "no file matches this pattern",
    ]
    with pytest.raises(DataError, match="empty: a folder without an image file"):
        list(images_of(names))


def test_each_folder_is_listed_once_and_links_are_followed(photos, tmp_path):
    digit(10).save(tmp_path / "10.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "10.png").rename(tmp_path / "other" / "10.png")
    (photos / "b" / "elsewhere").symlink_to(tmp_path / "other")
    (photos / "c").symlink_to(photos / "a")
    (photos / "a" / "circle").symlink_to(photos)
    listed = [path.relative_to(photos).as_posix() for path in images_of([str(photos)])]
    assert listed == [
        *(f"a/{n}.png" for n in (0, 2, 4, 6, 8)),
        *(f"b/{n}.png" for n in (1, 3, 5, 7, 9)),
        "b/elsewhere/10.png",
    ]


def test_images_on_other_disks_are_listed(photos, monkeypatch):
    real = os.stat

    def on_two_disks(path, **how):
        status = real(path, **how)
        if str(path).endswith("/b"):
            fields = list(status)
            fields[2] += 1  # st_dev
            return os.stat_result(fields)
        return status

    monkeypatch.setattr(os, "stat", on_two_disks)
    assert len(list(images_of([str(photos)]))) == 10


def test_links_to_the_whole_machine_are_not_followed(photos):
    (photos / "up").symlink_to("/")
    (photos / "system").symlink_to("/proc/self")
    problems = []
    assert len(list(images_of([str(photos), "/sys"], problems.append))) == 10
    assert [str(problem) for problem in problems] == [
        f"{photos}/system is not listed: /proc and /sys hold no files of a disk",
        f"{photos}/up is linked to /, a folder above it; listing it would never end",
        "/sys is not listed: /proc and /sys hold no files of a disk",
    ]


def test_a_folder_of_far_more_than_images_gives_what_was_found_so_far(photos, monkeypatch):
    monkeypatch.setattr("selfkd.data.reading.class_folders._MOST_OTHERS", 20)
    (photos / "c").mkdir()
    for number in range(30):
        (photos / "c" / f"{number}.txt").touch()
    problems = []
    assert len(list(images_of([str(photos)], problems.append))) == 10
    (problem,) = map(str, problems)
    assert problem == (
        f"{photos} holds more than 20 files and folders that are not images, beside 10 images; listing stops there; "
        "the images found so far are taken; name smaller folders"
    )


def test_only_a_batch_of_images_is_read_ahead(loaded, photos):
    asked = []

    def endless():
        while True:
            asked.append(photos / "a" / "0.png")
            yield asked[-1]

    predictions = predict(loaded, endless(), batch_size=4)
    first = next(predictions)
    assert len(asked) == 4
    assert [next(predictions) for _ in range(4)] == [first] * 4
    assert len(asked) == 8
    predictions.close()


def test_the_size_of_a_batch_changes_no_label(loaded, photos):
    images = list(images_of([str(photos)]))
    one, all_at_once = (list(predict(loaded, images, top=3, batch_size=size)) for size in (1, 64))
    assert [each.image for each in one] == [str(image) for image in images]
    for mine, theirs in zip(one, all_at_once, strict=True):
        assert [each.label for each in mine.classes] == [each.label for each in theirs.classes]


def test_a_bad_image_is_named_and_the_next_are_labelled(loaded, photos):
    (photos / "a" / "2.png").write_bytes(b"text")
    (photos / "a" / "4.png").write_bytes((photos / "a" / "4.png").read_bytes()[:80])
    (photos / "a" / "6.png").unlink()
    os.mkfifo(photos / "a" / "6.png")
    problems = []
    images = [*images_of([str(photos / "a")]), Path("gone.png")]
    labelled = [Path(each.image).name for each in predict(loaded, images, report=problems.append)]
    assert labelled == ["0.png", "8.png"]
    assert [str(problem).partition(":")[0].rpartition("/")[2] for problem in problems] == [
        "2.png",
        "4.png",
        "6.png",
        "gone.png",
    ]
    assert all("not readable as an image" in str(problem) for problem in problems[:-1])
    assert str(problems[-1]) == "gone.png: there is no such file or folder"
    with pytest.raises(DataError, match=r"2\.png: not readable as an image"):
        list(predict(loaded, images))


def test_wrong_options_are_refused_before_an_image_is_read(loaded):
    for options, message in (
        ({"top": 11}, "^top=11 is not allowed; top must be a whole number >= 1 and at most 10$"),
        ({"top": 1.5}, "top=1.5 .* a whole number"),
        ({"batch_size": 0}, "^batch_size=0"),
        ({"batch_size": 10**30}, ">= 1 and at most 65536"),
    ):
        with pytest.raises(OptionError, match=message):
            predict(loaded, [], **options)


def test_too_little_memory_ends_in_an_error(loaded, photos, monkeypatch):
    def too_large(images):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loaded.network, "forward", too_large)
    with pytest.raises(
        MemoryExhaustedError,
        match=r"labelling 10 images together needs more .* \(.*DefaultCPU.*; a smaller batch size",
    ):
        list(predict(loaded, images_of([str(photos)])))


def test_an_image_too_large_for_memory_is_one_bad_image(loaded, photos, monkeypatch):
    convert = Image.Image.convert

    def refusing(image, mode):
        if "4.png" in getattr(image, "filename", ""):
            raise MemoryError
        return convert(image, mode)

    monkeypatch.setattr(Image.Image, "convert", refusing)
    problems = []
    assert len(list(predict(loaded, images_of([str(photos / "a")]), report=problems.append))) == 4
    assert "4.png: the image is too large for this machine's memory" in str(problems[0])


def test_a_probability_that_is_nan_is_never_returned(loaded, photos, monkeypatch):
    monkeypatch.setattr(loaded.network, "forward", lambda images: torch.full((len(images), 10), torch.nan))
    with pytest.raises(CheckpointError, match=r"no probabilities for .*0\.png: its weights are damaged"):
        list(predict(loaded, images_of([str(photos)])))
