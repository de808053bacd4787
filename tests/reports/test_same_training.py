import pytest

from selfkd.errors import RecipeError
from selfkd.recipes.reader import resolve
from selfkd.recipes.values import written
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
        {"loader.workers": 3, "trainer.threads": 2, "trainer.checkpoint_every": 5},
        {"trainer.guard_every": 7},
    ],
    ids=str,
)
def test_what_a_comparison_compares_may_differ(changes):
    check_same_training([demo(), demo(**changes)], will_train=True)


def test_recipes_that_will_be_trained_read_their_data_from_one_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    folder = {"data": "folder", "data.image_size": 16}
    here, linked, elsewhere = (
        demo(method, **folder, **{"data.root": str(root)})
        for method, root in (("plain", tmp_path), ("dtskd", tmp_path / "link"), ("ps_kd", "elsewhere"))
    )
    check_same_training([here, linked], will_train=True)
    check_same_training([here, elsewhere], will_train=False)
    with pytest.raises(RecipeError) as caught:
        check_same_training([here, linked, elsewhere], will_train=True)
    said, advice = str(caught.value).splitlines()
    assert "/plain+data=folder and demo/digits/resnet18/ps_kd+data=folder train differently: data.root is " in said
    assert advice == f"add data.root={tmp_path} to train all alike, or --allow-differences to compare them as they are"


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
        ("trainer.sync_batchnorm", True, False),
    ],
)
def test_other_data_or_another_training_is_refused_with_the_way_out(option, value, before):
    recipes = [demo(), demo("dtskd"), demo("dtskd", **{option: value})]
    (difference,) = training_differences(recipes)
    assert (difference.option, difference.value, difference.other_value) == (option, before, value)
    with pytest.raises(RecipeError) as caught:
        check_same_training(recipes, will_train=False)
    said = str(caught.value)
    assert said == (
        f"{recipes[0].name} and {recipes[2].name} train differently: {option} is {before!r} and {value!r}\n"
        f"add {option}={written(before)} to train all alike, or --allow-differences to compare them as they are"
    )


def test_all_that_must_be_equal_is_in_the_advice():
    others = [demo("dtskd", **{"trainer.epochs": 15}), demo("ps_kd", **{"optimizer.lr": 0.1})]
    with pytest.raises(
        RecipeError, match=r"; the same is true of .*ps_kd.*\nadd trainer.epochs=200 optimizer.lr=0.05 to"
    ):
        check_same_training([demo(), *others], will_train=False)


def test_of_another_part_its_options_are_not_listed_too():
    (difference,) = training_differences([demo(), demo(optimizer="adamw")])
    assert (difference.option, difference.value, difference.other_value) == ("optimizer", "sgd", "adamw")


def test_the_papers_protocols_are_not_one_training():
    recipes = [resolve(f"{protocol}/cifar100/resnet18/plain") for protocol in ("dtskd", "teskd")]
    assert {each.option for each in training_differences(recipes)} >= {"trainer.epochs"}
    equal = {"trainer.epochs": 15, "trainer.best_after_epoch": 0}
    recipes = [resolve(f"{protocol}/cifar100/resnet18/plain", equal) for protocol in ("dtskd", "teskd")]
    check_same_training(recipes, will_train=False)
