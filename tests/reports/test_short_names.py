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
