import shutil

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.sources.imagenet import ImageNet
from selfkd.errors import DataError, OptionError


def source(root, **options):
    return ImageNet(root=str(root), **{"image_size": 32, "resize": 36, **options})


def test_files_and_labels_are_those_of_torchvisions_image_folder(digits_as_imagenet):
    splits = source(digits_as_imagenet).load(seed=0)
    for split, name in ((splits.train, "train"), (splits.test, "val")):
        theirs = ImageFolder(digits_as_imagenet / name)
        assert isinstance(split, ImageFiles)
        assert [(str(split.path(i)), label) for i, label in enumerate(split.labels.tolist())] == theirs.samples
        assert splits.class_names == tuple(theirs.classes)
    assert splits.info.input_size == (3, 32, 32)


def test_images_are_scaled_and_their_centre_cut_out(digits_as_imagenet):
    split = source(digits_as_imagenet).load(seed=0).test
    expected = v2.Compose([v2.Resize(36), v2.CenterCrop(32), v2.PILToTensor()])
    for position in range(len(split)):
        with Image.open(split.path(position)) as image:
            assert torch.equal(split.transformed(position), expected(image.convert("RGB")))


def test_a_validation_split_is_held_out_stratified(digits_as_imagenet):
    splits = source(digits_as_imagenet, validation_fraction=0.3).load(seed=0)
    assert sorted(splits.validation.labels.bincount().tolist()) == [2, 2, 3]
    paths = [{split.path(i) for i in range(len(split))} for split in (splits.train, splits.validation)]
    assert len(paths[0] | paths[1]) == 21
    assert splits.fingerprint() != source(digits_as_imagenet).load(seed=0).fingerprint()


def test_hidden_folders_are_no_classes(digits_as_imagenet):
    (digits_as_imagenet / "train" / ".ipynb_checkpoints").mkdir()
    assert source(digits_as_imagenet).load(seed=0).class_names == ("n0", "n1", "n2")


def test_a_validation_set_linked_to_the_training_set_is_refused(digits_as_imagenet):
    shutil.rmtree(digits_as_imagenet / "val")
    (digits_as_imagenet / "val").symlink_to(digits_as_imagenet / "train")
    with pytest.raises(DataError, match="val/n0 and .*train/n0 are the same folder"):
        source(digits_as_imagenet).load(seed=0)


def test_layouts_that_do_not_fit_are_named(digits_as_imagenet, tmp_path):
    root = digits_as_imagenet
    with pytest.raises(OptionError, match="data.root is missing.* ImageNet"):
        ImageNet().load(seed=0)
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        source(tmp_path / "nowhere").load(seed=0)
    with pytest.raises(DataError, match="train is missing; data.root must name"):
        source(root / "val").load(seed=0)
    (root / "val" / "n1").rename(root / "val" / "n7")
    with pytest.raises(DataError, match=r"val has other classes .*n1 \(only in training\), n7 \(only in val\)"):
        source(root).load(seed=0)
    (root / "val" / "n7").rename(root / "val" / "n1")
    for file in (root / "train" / "n2").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"class folders without an image file: 1; .* \(train/n2\)"):
        source(root).load(seed=0)
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_text("")
    with pytest.raises(DataError, match="val holds no folder, only image files .1.; sort them into .*<class>/"):
        source(root).load(seed=0)


def test_one_class_is_too_few(digits_as_imagenet):
    for split in ("train", "val"):
        for name in ("n1", "n2"):
            shutil.rmtree(digits_as_imagenet / split / name)
    with pytest.raises(DataError, match="train holds a single class, n0; at least two are needed"):
        source(digits_as_imagenet).load(seed=0)


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match="data.image_size=4"):
        ImageNet(image_size=4)
    with pytest.raises(OptionError, match="data.resize=200 .* at least data.image_size=224"):
        ImageNet(resize=200)


def test_real_photographs(photographs, tmp_path):
    for number, photograph in enumerate(photographs):
        folder = tmp_path / ("train" if number < 4 else "val") / f"n{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photograph.name).symlink_to(photograph)
    splits = ImageNet(root=str(tmp_path)).load(seed=0)
    assert splits.train.labels.tolist() == [0, 0, 1, 1]
    assert splits.train.transformed(0).shape == (3, 224, 224)
    assert splits.train.original(0).float().std() > 20
