from pathlib import Path

import numpy as np
import pytest

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.keyword_overrides import flat_overrides
from selfkd.recipes.reader import resolve

DTSKD = "demo/digits/resnet18/dtskd"


def test_the_first_underscore_after_a_section_is_a_dot():
    assert flat_overrides(
        {
            "trainer_epochs": 3,
            "optimizer_weight_decay": 0.1,
            "loader.batch_size": 8,
            "seed": 2,
            "method": "ps_kd",
            "name": "mine",
            "teacher_recipe": DTSKD,
            "teacher_trainer_epochs": 5,
            "teacher.optimizer.lr": 1,
        }
    ) == {
        "trainer.epochs": 3,
        "optimizer.weight_decay": 0.1,
        "loader.batch_size": 8,
        "seed": 2,
        "method": "ps_kd",
        "name": "mine",
        "teacher.recipe": DTSKD,
        "teacher.trainer.epochs": 5,
        "teacher.optimizer.lr": 1,
    }


def test_values_of_python_give_the_recipe_that_texts_give():
    of_texts = split_overrides(
        [
            *("trainer.epochs=15", "method.head_weights=[4,1,1,1]", "optimizer.lr=0.00001", "optimizer.nesterov=true"),
            *("data=folder", "data.root=photos", "data.classes=null", "supervision=null", "data.image_size=16"),
        ]
    )
    of_python = flat_overrides(
        {
            "trainer_epochs": np.int64(15),
            "method_head_weights": (4, 1, 1.0, np.float32(1)),
            "optimizer_lr": 1e-5,
            "optimizer_nesterov": True,
            "data": "folder",
            "data_root": Path("photos"),
            "data_classes": None,
            "supervision": None,
            "data_image_size": 16,
        }
    )
    assert resolve(DTSKD, of_python) == resolve(DTSKD, of_texts)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"trainer_epcohs": 3}, UnknownNameError, "unknown option 'trainer.epcohs'; nearest: trainer.epochs=3"),
        ({"epochs": 3}, UnknownNameError, "unknown option 'epochs'; nearest: trainer.epochs=3"),
        ({"lr": [0.1, 0.2]}, UnknownNameError, r"nearest: optimizer.lr=\[0.1,0.2\]"),
        ({"trainer_epochs": 3, "trainer.epochs": 4}, RecipeError, "trainer.epochs is given twice"),
        ({"trainer_epochs": {3}}, RecipeError, r"trainer.epochs=\{3\} is not allowed; trainer.epochs must be a number"),
        ({"method": object}, RecipeError, "method=<class 'object'> is not allowed; method must be a number, a text"),
    ],
)
def test_a_mistake_is_named(keywords, error, message):
    with pytest.raises(error, match=message):
        flat_overrides(keywords)
