import re

import pytest

from selfkd.recipes.options_help import options_help
from selfkd.recipes.reader import resolve

DTSKD = "dtskd/cifar100/resnet18/dtskd"


def help_of(recipe):
    return options_help(recipe.parts, recipe.flat())


def test_the_help_names_every_key_with_meaning_and_the_recipes_value():
    recipe = resolve(DTSKD)
    text = help_of(recipe)
    for section, options in recipe.options.items():
        for option in options:
            assert f"{section}.{option}=" in text
    assert "trainer.epochs=300" in text
    assert "weight of the label at the start" in text
    assert "SUPPRESS" not in text


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("seed", "a whole number"),
        ("data.classes", "a whole number, null or a list [...] of whole numbers or texts"),
        ("data.mean", "a list [...] of numbers"),
        ("data.root", "a text or null"),
        ("augmentation.scale", "a list [...] of 2 numbers"),
        ("method.beta_offset", "0 or 1"),
        ("trainer.precision", "32, bf16-mixed or 16-mixed"),
        ("trainer.compile", "true, false, default, reduce-overhead or max-autotune"),
        ("trainer.loggers", "a list [...] of csv or tensorboard"),
        ("backbone.dropout", "a number or null"),
    ],
)
def test_the_help_says_in_words_what_values_an_option_takes(key, words):
    chosen = {"data.root": "anywhere", "backbone": "torchvision/resnet18", "augmentation": "random_resized_crop"}
    _, _, after = help_of(resolve(DTSKD, chosen)).partition(f"\n  {key}=")
    said = " ".join(re.split(r"\n  \w|\n\n", after)[0].split())
    assert said.endswith(f"({words})")


def test_the_help_is_written_for_the_command_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    text = help_of(resolve(DTSKD, {"backbone": "vit_tiny_patch16_224"}))
    for of_python in ("Union", "Literal", "None", "typing", "<class", "(str)", "(int"):
        assert of_python not in text
    assert "bf16-\n" not in text, "names stay whole"
    assert max(map(len, text.splitlines())) <= 100
    assert "\n  optimizer=sgd\n      or adamw\n" in text
