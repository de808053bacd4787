"""A real process whose data breaks under it."""

from test_resume import finish, start, wait_for_epoch

from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.training.fit import epochs_done

EPOCHS = 6


def test_a_file_that_becomes_unreadable_is_named_and_the_run_continues_once_it_is_mended(digits_as_imagenet, tmp_path):
    recipe = resolve(
        "dtskd/imagenet/resnet18/dtskd",
        {
            "name": "broken",
            "data.root": str(digits_as_imagenet),
            "data.image_size": 32,
            "data.resize": 36,
            "augmentation.size": 32,
            "backbone": "resnet18_cifar",
            "backbone.width": 8,
            "trainer.epochs": EPOCHS,
            "loader.batch_size": 7,
            "loader.workers": 2,
        },
    )
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    folder = RunFolder(tmp_path / "runs" / "broken" / "seed-0")
    image = sorted((digits_as_imagenet / "train").rglob("*.JPEG"))[10]
    whole = image.read_bytes()
    process = start(file, tmp_path / "runs")
    wait_for_epoch(folder, 1, process)
    image.write_bytes(whole[: len(whole) // 2])
    status, errors = finish(process)  # returns only when the workers have ended, too
    assert status == 2
    assert f"{image}: not a readable image" in errors
    assert "Traceback" not in errors
    done = epochs_done(folder.checkpoint("last"))
    assert 1 <= done < EPOCHS

    image.write_bytes(whole)
    status, errors = finish(start(file, tmp_path / "runs"))
    assert status == 0, errors
    assert f"continues after epoch {done} of {EPOCHS}" in errors
    assert folder.scores()["last"]["epoch"] == EPOCHS
