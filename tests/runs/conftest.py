"""Short runs of the embedded default."""

import pytest

from selfkd.recipes.reader import resolve

SHORT = {"backbone.width": 8, "trainer.epochs": 4, "trainer.evaluate_every": 1}


@pytest.fixture
def short():
    """`short("dtskd", **overrides)`: a resolved recipe that trains in a second."""

    def make(demo="dtskd", **overrides):
        return resolve(f"demo/digits/resnet18/{demo}", {**SHORT, **overrides})

    return make
