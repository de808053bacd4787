"""What is held out of labelled sets, made up here as labels alone."""

import re

import numpy as np
import pytest

from selfkd.data.sources.sampling import held_out
from selfkd.errors import OptionError

NAMES = ("cat", "dog", "emu")


def labels_of(*sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def draw(sizes, fraction, seed=0):
    return held_out(labels_of(*sizes), fraction, seed, "data.test_fraction", NAMES)


def test_every_class_gives_its_share():
    kept, given = draw((10, 20, 30), 0.2)
    assert np.bincount(labels_of(10, 20, 30)[given]).tolist() == [2, 4, 6]
    assert sorted([*kept, *given]) == list(range(60))


@pytest.mark.parametrize(
    ("sizes", "fraction", "message"),
    [
        ((1, 20, 30), 0.2, "but 'cat' has only one; add images to this class, or leave it out with data.classes"),
        ((100, 2, 100), 0.95, "and 'dog' has only 2 of 202; set a share from 0.014 to 0.5, or add images"),
        ((10, 20, 30), 0.01, "and 'cat' has only 10 of 60; set a share from 0.05 to 0.9, or add images"),
        ((10, 20, 30), 0.99, "and 'cat' has only 10 of 60; set a share from 0.05 to 0.9, or add images"),
        ((2, 2, 3), 0.2, "and 'cat' has only 2 of 7; set a share from 0.4 to 0.4, or add images"),
    ],
)
def test_a_share_that_a_class_cannot_give_is_refused_with_those_that_are_possible(sizes, fraction, message):
    message = f"every class must give an image and keep one, {re.escape(message)}"
    with pytest.raises(OptionError, match=message) as refused:
        draw(sizes, fraction)
    for share in re.findall(r"from (\S+) to (\S+), or", str(refused.value)):
        for each in map(float, share):
            for seed in range(20):
                kept, _ = draw(sizes, each, seed)
                assert set(labels_of(*sizes)[kept]) == {0, 1, 2}


def test_no_draw_leaves_a_class_without_a_training_image():
    for seed in range(50):
        for fraction in (0.1, 0.5, 0.7, 0.9, 0.97):
            try:
                kept, _ = draw((40, 3, 60), fraction, seed)
            except OptionError:
                continue
            assert set(labels_of(40, 3, 60)[kept]) == {0, 1, 2}
