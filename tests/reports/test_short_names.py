import pytest

from selfkd.recipes.reader import resolve
from selfkd.reports.short_names import short_names

DEMO, PAPER = "demo/digits/resnet18", "dtskd/cifar100/resnet18"


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        ([(f"{DEMO}/plain", {})], ("method", ["plain"])),
        ([(f"{DEMO}/plain", {}), (f"{DEMO}/plain", {"method": "ps_kd"})], ("method", ["plain", "ps_kd"])),
        ([(f"{PAPER}/dtskd", {}), (f"{PAPER}/dtskd-linear", {})], ("recipe", ["dtskd", "dtskd-linear"])),
        (
            [(f"{DEMO}/plain", {}), (f"{DEMO}/dtskd", {"method.temperature": 2})],
            ("recipe", ["plain", "dtskd+method.temperature=2.0"]),
        ),
        (
            [(f"{DEMO}/plain", {"name": "first"}), (f"{DEMO}/dtskd", {"name": "second", "method.temperature": 2})],
            ("recipe", ["first", "second"]),
        ),
        (
            [(f"{DEMO}/{name}", {"trainer.epochs": 5, "backbone.width": 8}) for name in ("plain", "ps_kd")],
            ("method", ["plain", "ps_kd"]),
        ),
        (
            [
                (f"{DEMO}/plain", {"trainer.epochs": 5}),
                (f"{DEMO}/dtskd", {"trainer.epochs": 5, "augmentation": "crop_flip"}),
            ],
            ("recipe", ["plain", "dtskd+augmentation=crop_flip"]),
        ),
        (
            [(f"{DEMO}/plain", {}), (f"{DEMO}/plain", {"supervision": "smoothed"})],
            ("recipe", ["plain", "plain+supervision=smoothed"]),
        ),
        (
            [(f"{PAPER}/plain", {}), ("teskd/cifar100/resnet18/plain", {})],
            ("recipe", [f"{PAPER}/plain", "teskd/cifar100/resnet18/plain"]),
        ),
        (
            [(f"{PAPER}/plain", {}), ("dtskd/cifar100/vgg16/dtskd", {})],
            ("recipe", [f"{PAPER}/plain", "dtskd/cifar100/vgg16/dtskd"]),
        ),
        (
            [(f"{DEMO}/plain", {}), (f"{DEMO}/plain", {"backbone.width": 8})],
            ("recipe", [f"{DEMO}/plain", f"{DEMO}/plain+backbone.width=8"]),
        ),
    ],
)
def test_the_shortest_name_that_tells_recipes_apart(recipes, expected):
    assert short_names([resolve(name, overrides) for name, overrides in recipes]) == expected
