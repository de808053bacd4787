import pytest

import selfkd
from selfkd.catalogue import Entry
from selfkd.contract import Needs
from selfkd.errors import UserError
from selfkd.methods import METHODS, listing
from selfkd.methods.listing import GROUPS, OWN_BLOCKS_IN_WORDS, ListedMethod, PublishedGain, list_methods
from selfkd.methods.not_specifiable import NOT_SPECIFIABLE


def listed(**changes):
    facts = {"summary": "", "group": "structure", "needs": Needs(), "heads": ("main",), "exits": ("main",)}
    costs = {"extra_parameters": 0, "relative_multiply_adds": 1.0, "images_per_sample": 1, "published": ()}
    return ListedMethod(**{**facts, **costs, **changes})


def test_every_method_is_listed_with_its_summary_and_a_group_that_exists():
    methods = list_methods()
    assert list(methods) == list(METHODS)
    assert [method.summary for method in methods.values()] == [entry.summary for entry in METHODS.values()]
    assert {method.group for method in methods.values()} <= set(GROUPS), "run: python benchmarks/method_counts.py"


def test_a_method_that_has_not_been_counted_is_listed_with_its_summary(monkeypatch):
    monkeypatch.setattr(listing, "METHODS", {**METHODS, "newest": Entry("nowhere:Newest", "a new idea")})
    method = list_methods()["newest"]
    assert method == ListedMethod("a new idea")
    assert (method.needs_in_words, method.parameters_in_words, method.multiply_adds_in_words) == ("", "", "")


def test_a_method_that_nobody_can_build_says_why():
    for name, method in NOT_SPECIFIABLE.items():
        assert name not in METHODS
        assert method.group in GROUPS
    reason = "method 'dbfskd' is not here: .* cannot be specified because its fusion modules are unpublished"
    with pytest.raises(UserError, match=reason):
        selfkd.resolve_recipes("demo/digits/resnet18/plain", method="dbfskd")


def test_what_is_listed_is_what_a_method_declares():
    methods = list_methods()
    backbone = selfkd.create_backbone("resnet18_cifar", 2, width=8, input_size=16)
    dtskd = selfkd.create_method("dtskd", backbone, selfkd.DatasetInfo(2, 2))
    assert methods["dtskd"].needs == dtskd.needs
    assert methods["dtskd"].exits == ("main",)
    assert methods["kd"].needs == Needs(teacher=True)
    assert methods["loth"].exits == ("main", "branch1", "branch2", "branch3")
    assert methods["loth"].heads == ("main", "branch1", "branch2", "branch3", "fusion")


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (Needs(), ""),
        (Needs(sample_index=True, stages="halving"), "index of each image, stages that halve"),
        (Needs(views=2, same_class=3, labels=True), "2 views of each image, 3 more of each image's class, all labels"),
        (
            Needs(teacher=True, peer=True, own_blocks=True),
            f"trained teacher, second network, network {OWN_BLOCKS_IN_WORDS}",
        ),
        (Needs(stages="halving_or_equal"), "stages that halve, rounded up, or stay equal"),
    ],
)
def test_needs_in_words(needs, words):
    assert listed(needs=needs).needs_in_words == words


@pytest.mark.parametrize(
    ("parameters", "relative", "words"),
    [
        (0, 1.0, ("", "")),
        (4_100, 1.0004, ("+4,100", "")),
        (1_063_212, 1.0483, ("+1.06 M", "+4.8 %")),
        (36_900_000, 2.2391, ("+36.9 M", "+124 %")),
    ],
)
def test_costs_in_words(parameters, relative, words):
    method = listed(extra_parameters=parameters, relative_multiply_adds=relative)
    assert (method.parameters_in_words, method.multiply_adds_in_words) == words


def test_a_gain_is_a_difference_in_points():
    gain = PublishedGain("dtskd/imagenet/resnet18/ps_kd", "DTSKD, Table 3", "main", 69.94, 69.71)
    assert (gain.points, gain.dataset) == (0.23, "imagenet")
