import pytest

from selfkd.errors import RecipeError
from selfkd.recipes.reader import resolve
from selfkd.reports.same_training import check_same_training, training_differences


def demo(recipe="plain", **overrides):
    return resolve(f"demo/digits/resnet18/{recipe}", overrides)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "ps_kd"},
        {"backbone": "vgg11_cifar", "backbone.width": 8},
        {"augmentation": "crop_flip"},
        {"supervision": "smoothed"},
        {"regularization.mixup": 0.5},
        {"seed": 4},
        {"data.root": "elsewhere", "loader.workers": 3, "trainer.threads": 2, "trainer.checkpoint_every": 5},
        {"trainer.guard_every": 7},
    ],
    ids=str,
)
def test_what_a_comparison_compares_may_differ(changes):
    if "data.root" in changes:
        base = {"data": "folder", "data.image_size": 16, "data.root": "here"}
        check_same_training([demo(**base), demo(**{**base, **changes})])
    else:
        check_same_training([demo(), demo(**changes)])


@pytest.mark.parametrize(
    ("option", "value", "before"),
    [
        ("data.train_per_class", 5, 10),
        ("loader.batch_size", 10, 20),
        ("optimizer.lr", 0.1, 0.05),
        ("schedule.gamma", 0.2, 0.1),
        ("trainer.epochs", 15, 200),
        ("trainer.precision", "bf16-mixed", "32"),
        ("trainer.best_after_epoch", 5, 0),
        ("trainer.evaluate_every", 1, 10),
    ],
)
def test_other_data_or_another_training_is_refused_with_the_way_out(option, value, before):
    recipes = [demo(), demo("dtskd"), demo("dtskd", **{option: value})]
    (difference,) = training_differences(recipes)
    assert (difference.option, difference.value, difference.other_value) == (option, before, value)
    with pytest.raises(RecipeError) as caught:
        check_same_training(recipes)
    said = str(caught.value)
    assert said == (
        f"{recipes[0].name} and {recipes[2].name} train differently: {option} is {before!r} and {value!r}\n"
        f"add {option}={before} to train all alike, or --allow-differences to compare them as they are"
    )


def test_all_that_must_be_equal_is_in_the_advice():
    others = [demo("dtskd", **{"trainer.epochs": 15}), demo("ps_kd", **{"optimizer.lr": 0.1})]
    with pytest.raises(
        RecipeError, match=r"; the same is true of .*ps_kd.*\nadd trainer.epochs=200 optimizer.lr=0.05 to"
    ):
        check_same_training([demo(), *others])


def test_of_another_part_its_options_are_not_listed_too():
    (difference,) = training_differences([demo(), demo(optimizer="adamw")])
    assert (difference.option, difference.value, difference.other_value) == ("optimizer", "sgd", "adamw")


def test_the_papers_protocols_are_not_one_training():
    recipes = [resolve(f"{protocol}/cifar100/resnet18/plain") for protocol in ("dtskd", "teskd")]
    assert {each.option for each in training_differences(recipes)} >= {"trainer.epochs"}
    equal = {"trainer.epochs": 15, "trainer.best_after_epoch": 0}
    check_same_training([resolve(f"{protocol}/cifar100/resnet18/plain", equal) for protocol in ("dtskd", "teskd")])
