"""What a run folder must hold so that a run continues in it."""

import json
import shutil

import pytest
from short_runs import trained

from accuracies import accuracies
from image_sets import write_folder
from selfkd.errors import (
    DataError,
    RunError,
)
from selfkd.recipes.reader import resolve
from selfkd.runs.build import Experiment
from selfkd.runs.evaluate import evaluate
from selfkd.runs.prepare import check_recipe
from selfkd.runs.records import write_json
from selfkd.runs.run_folder import RunFolder


def test_another_experiment_in_the_folder_is_refused(short, tmp_path):
    folder = trained(short(name="mine", **{"trainer.epochs": 1}), tmp_path)
    other = short(name="mine", **{"trainer.epochs": 1, "optimizer.lr": 0.01})
    with pytest.raises(RunError, match=r"optimizer.lr: 0.05 there, 0.01 now.*name= of its own"):
        trained(other, tmp_path)
    assert folder.recipe().options["optimizer"]["lr"] == 0.05


def test_a_finished_run_is_checked_against_the_data_that_is_named(photographed, tmp_path, caplog):
    caplog.set_level("INFO", "selfkd")
    folder = trained(photographed(tmp_path / "three"), tmp_path)
    before = folder.scores_file.read_bytes()
    shutil.copytree(tmp_path / "three", tmp_path / "moved")
    for same in ("three", "moved"):
        caplog.clear()
        assert trained(photographed(tmp_path / same), tmp_path) == folder
        assert "is finished; --overwrite trains it again" in caplog.text
    shutil.copytree(tmp_path / "three", tmp_path / "swapped")
    images = [next((tmp_path / "swapped" / "train" / name).iterdir()) for name in ("digit 0", "digit 1")]
    contents = [image.read_bytes() for image in images]
    for image, content in zip(images, reversed(contents), strict=True):
        image.write_bytes(content)
    write_folder(tmp_path / "others" / "train", 6, digits=range(3, 6))
    write_folder(tmp_path / "others" / "test", 2, digits=range(3, 6), start=6)
    for other in ("swapped", "others"):
        with pytest.raises(
            RunError, match="was trained on other data than data=folder gives now; give the new run a name="
        ):
            trained(photographed(tmp_path / other), tmp_path)
    (tmp_path / "table.csv").write_text("image,label\n")
    for unreadable in ("nowhere", "table.csv"):
        with pytest.raises(DataError, match=f"{unreadable}' is not a folder"):
            trained(photographed(tmp_path / unreadable), tmp_path)
    assert folder.scores_file.read_bytes() == before


def test_other_data_under_the_same_name_is_noticed(tmp_path, digits_as_cifar100, caplog):
    from pyarrow import parquet

    root = digits_as_cifar100
    overrides = {"data.root": str(root), "backbone.width": 8, "trainer.epochs": 1, "loader.batch_size": 20}
    recipe = resolve("dtskd/cifar100/resnet18/plain", overrides)
    folder = trained(recipe, tmp_path)
    file = root / "train-00000-of-00002.parquet"
    table = parquet.read_table(file)
    parquet.write_table(table.take(list(reversed(range(len(table))))), file)
    evaluate(folder.path)
    assert "was trained on other data" in caplog.text
    folder.scores_file.unlink()
    with pytest.raises(RunError, match="was trained on other data"):
        trained(recipe, tmp_path)


def test_a_fingerprint_of_an_older_version_is_compared_by_its_own_rule(photographed, tmp_path, caplog):
    recipe = photographed(tmp_path / "three")
    folder = trained(recipe, tmp_path)
    older, _ = Experiment.build(recipe).splits._checksums(contents=False)
    assert not older.startswith("content")
    write_json(folder.data_file, {"fingerprint": older})
    evaluate(folder.path)
    trained(recipe, tmp_path)
    assert "was trained on other data" not in caplog.text
    image = next((tmp_path / "three" / "train" / "digit 0").iterdir())
    image.write_bytes(image.read_bytes() + b"longer")
    evaluate(folder.path)
    assert "was trained on other data" in caplog.text
    with pytest.raises(RunError, match="was trained on other data"):
        trained(recipe, tmp_path)


def test_a_run_from_before_an_option_existed_is_still_the_same(short, tmp_path):
    recipe = short()
    folder = trained(recipe, tmp_path)
    lines = folder.recipe_file.read_text().splitlines(keepends=True)
    folder.recipe_file.write_text("".join(line for line in lines if "guard_every" not in line))
    check_recipe(folder, recipe)
    assert accuracies(folder.path) == folder.scores()["last"]["scores"]["test"]


def test_the_place_of_the_history_does_not_identify_the_run(short, tmp_path):
    folders = [
        trained(short(**{"history.storage": storage, "trainer.epochs": 2}), tmp_path / storage)
        for storage in ("auto", "memmap")
    ]
    assert folders[0].path.parts[-2:] == folders[1].path.parts[-2:]
    assert folders[0].scores()["last"] == folders[1].scores()["last"]
    check_recipe(folders[1], short(**{"history.storage": "pinned", "trainer.epochs": 2}))
    with pytest.raises(RunError, match="history.top_k: None there, 3 now"):
        check_recipe(folders[1], short(**{"history.top_k": 3, "trainer.epochs": 2}))


@pytest.mark.parametrize("version", ["0.0.1", None])
def test_a_run_that_another_version_began_says_so_when_it_continues(unfinished, tmp_path, caplog, version):
    record = json.loads(unfinished.data_file.read_text())
    record.pop("selfkd_version")
    write_json(unfinished.data_file, record if version is None else {**record, "selfkd_version": version})
    caplog.set_level("INFO", "selfkd")
    trained(unfinished.recipe(), tmp_path)
    assert f"was begun by selfkd {version or 'of an unknown version'}; selfkd " in caplog.text
    assert json.loads(unfinished.data_file.read_text()).get("selfkd_version") == version


def test_a_run_that_its_own_version_continues_says_nothing_of_versions(unfinished, tmp_path, caplog):
    caplog.set_level("INFO", "selfkd")
    trained(unfinished.recipe(), tmp_path)
    assert "continues after epoch 2" in caplog.text
    assert "was begun by" not in caplog.text


def test_a_version_that_is_no_text_is_refused(unfinished, tmp_path):
    record = json.loads(unfinished.data_file.read_text())
    write_json(unfinished.data_file, {**record, "selfkd_version": 1})
    with pytest.raises(RunError, match=r"data.json is damaged: its selfkd_version is 1"):
        trained(unfinished.recipe(), tmp_path)


def test_two_processes_do_not_share_a_folder(short, tmp_path):
    recipe = short()
    folder = RunFolder.of(recipe, tmp_path / "runs")
    with folder.locked(), pytest.raises(RunError, match="another process is training"):
        trained(recipe, tmp_path)
    assert trained(recipe, tmp_path).scores_file.exists()


def test_a_checkpoint_without_its_recipe_is_refused_and_overwrite_starts_afresh(short, tmp_path):
    recipe = short()
    folder = trained(recipe, tmp_path)
    folder.recipe_file.unlink()
    folder.scores_file.unlink()
    with pytest.raises(RunError, match="holds a checkpoint without its recipe.yaml"):
        trained(recipe, tmp_path)
    folder.metrics_file.write_text("damaged")
    assert trained(recipe, tmp_path, overwrite=True).recipe().options == recipe.options


def test_a_run_of_another_length_is_refused_with_the_reason(finished, short):
    longer = short(name="finished", **{"backbone.width": 4, "trainer.epochs": 5})
    with pytest.raises(RunError) as refused:
        check_recipe(finished, longer)
    for said in ("trainer.epochs: 3 there, 5 now", "decays depend on the number of all epochs", "name= of its own"):
        assert said in str(refused.value)
