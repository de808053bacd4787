"""Processes that train together see of each batch what one process alone would see."""

import numpy as np
import pytest
import torch

from image_sets import digit
from selfkd.contract import Needs
from selfkd.data.augmentation.augmentations import CropFlip, RandomResizedCrop
from selfkd.data.augmentation.regularization import Regularization
from selfkd.data.loading.batches import LoaderOptions
from selfkd.data.loading.loaders import evaluation_loader, training_loader
from selfkd.data.loading.streaming import StreamingTrainingLoader
from selfkd.data.reading.image_files import ImageFiles
from selfkd.data.reading.resizing import centre_square
from selfkd.errors import DataError, OptionError

# Python 3.12 and later warn when torch forks the workers of a loader.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

NUM_SAMPLES = 21
NEEDS = {
    "single": Needs(sample_index=True),
    "views": Needs(sample_index=True, views=2),
    "pairs": Needs(sample_index=True, same_class=1),
    "views of others": Needs(sample_index=True, views=2, same_class=2, same_class_distinct=True),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Digits of three classes, seven each."""
    root = tmp_path_factory.mktemp("digits")
    samples = []
    for position in range(NUM_SAMPLES):
        samples.append((str(root / f"{position}.png"), position % 3))
        digit(position).save(samples[-1][0])
    return ImageFiles.of(root, samples, centre_square(32, 32), 32)


def loader(data, augmentation, needs, batch_size=8, workers=0):
    options = LoaderOptions(batch_size=batch_size, workers=workers)
    third = (1 / 3,) * 3
    hole = Regularization(cutout=8)
    return training_loader(data, augmentation, third, third, options, 3, needs, True, 3, hole)


def by_member(batch, needs):
    """Images, labels and indices as `[V, S, A, ...]`, `[S, A]` and `[S, A]`."""
    members = 1 + needs.same_class
    images = batch.images.unflatten(0, (needs.views, members, -1))
    return images, batch.labels.view(members, -1), batch.indices.view(members, -1)


@pytest.mark.parametrize("needs", NEEDS.values(), ids=NEEDS.keys())
@pytest.mark.parametrize("kind", ["resident", "streaming", "streaming with workers"])
@pytest.mark.parametrize("processes", [2, 4])
def test_each_process_gets_its_part_of_every_batch(files, needs, kind, processes):
    data = files.in_memory("digits") if kind == "resident" else files
    augmentation = CropFlip(padding=4) if kind == "resident" else RandomResizedCrop(size=32)
    workers = 2 if kind == "streaming with workers" else 0
    whole = list(loader(data, augmentation, needs).epoch(5))
    assert [batch.labels.numel() // (1 + needs.same_class) for batch in whole] == [8, 8, 5]
    if processes == 4:
        whole = whole[:2]  # five samples do not give each of four processes two
    for rank in range(processes):
        shared = loader(data, augmentation, needs, workers=workers)
        shared.set_shard(rank, processes)
        assert len(shared) == len(whole)
        for part, batch in zip(shared.epoch(5), whole, strict=True):
            mine, of_all = by_member(part, needs), by_member(batch, needs)
            assert torch.equal(mine[0], of_all[0][:, :, rank::processes])
            for values, expected in zip(mine[1:], of_all[1:], strict=True):
                assert torch.equal(values, expected[:, rank::processes])


def test_a_batch_that_cannot_be_shared_out_is_refused(files):
    for batch_size, processes in ((8, 3), (4, 4)):
        shared = loader(files, RandomResizedCrop(size=32), NEEDS["single"], batch_size)
        assert isinstance(shared, StreamingTrainingLoader)
        with pytest.raises(
            OptionError, match=f"loader.batch_size={batch_size} .*multiple of the {processes} processes"
        ):
            shared.set_shard(0, processes)


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_images_of_an_evaluation_are_shared_out_and_none_gets_an_empty_batch(files, kind):
    data = files.take(np.arange(9))
    data = data.in_memory("digits") if kind == "resident" else data
    third = (1 / 3,) * 3
    (whole,) = evaluation_loader(data, third, third, LoaderOptions(evaluation_batch_size=9), False)
    labels, indices = [], []
    for rank in range(2):
        loader = evaluation_loader(data, third, third, LoaderOptions(evaluation_batch_size=4), False)
        loader.set_shard(rank, 2)
        batches = list(loader)
        assert [len(batch.images) for batch in batches] == [2, 2, 1]
        labels.append([batch.labels.tolist() for batch in batches])
        indices.append([batch.indices.tolist() for batch in batches])
        assert torch.equal(batches[1].images, whole.images[[4 + rank, 6 + rank]])
        assert torch.equal(batches[2].images, whole.images[[8]]), "a stand-in where there is no share"
    expected = whole.labels.tolist()
    assert labels == [[expected[0:4:2], expected[4:8:2], [expected[8]]], [expected[1:4:2], expected[5:8:2], []]]
    assert indices == [[[0, 2], [4, 6], [8]], [[1, 3], [5, 7], []]]


def test_half_a_batch_that_can_be_shared_out_as_well(files):
    shared = loader(files, RandomResizedCrop(size=32), NEEDS["single"], batch_size=12)
    assert shared.halved_batch_size == 6
    shared.set_shard(0, 4)
    assert shared.halved_batch_size is None
    shared.set_shard(0, 2)
    assert shared.halved_batch_size == 6


def test_too_few_samples_for_so_many_processes_are_refused(files):
    few = loader(files.take(np.arange(3)), RandomResizedCrop(size=32), NEEDS["single"], batch_size=4)
    with pytest.raises(DataError, match="3 training samples are too few: 2 processes need 2 each"):
        few.set_shard(0, 2)


@pytest.mark.parametrize("needs", [*NEEDS.values(), Needs()], ids=[*NEEDS, "no index"])
@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_indices_stay_in_main_memory_too_where_another_device_trains(files, needs, kind):
    augmentation = CropFlip(padding=4) if kind == "resident" else RandomResizedCrop(size=32)
    data = files.in_memory("digits") if kind == "resident" else files
    here, there = (loader(data, augmentation, needs) for _ in range(2))
    there.to("meta")
    for batch, away in zip(here.epoch(2), there.epoch(2), strict=True):
        assert batch.host_indices is None
        assert away.images.device.type == "meta"
        if needs.sample_index:
            assert torch.equal(away.host_indices, batch.indices)
            assert away.to("meta").host_indices is away.host_indices
        else:
            assert away.host_indices is None
