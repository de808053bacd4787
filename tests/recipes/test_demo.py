import pytest

from selfkd.errors import RecipeError
from selfkd.recipes.demo import demo_recipes
from selfkd.recipes.reader import resolve
from selfkd.reports.same_training import training_differences


def test_the_demo_compares_two_methods_from_three_seeds():
    recipes = demo_recipes({"trainer.epochs": "2"})
    assert [(recipe.parts["method"], recipe.seed) for recipe in recipes] == [
        (method, seed) for method in ("plain", "dtskd") for seed in range(3)
    ]
    assert {recipe.options["trainer"]["epochs"] for recipe in recipes} == {2}


def test_a_given_seed_is_the_only_one():
    assert [recipe.seed for recipe in demo_recipes({"seed": "7"})] == [7, 7]


@pytest.mark.parametrize("key", ["name", "method"])
def test_what_the_recipes_differ_in_cannot_be_set(key):
    with pytest.raises(RecipeError, match=f"^{key}= needs a recipe"):
        demo_recipes({key: "mine"})


@pytest.mark.parametrize(
    ("method", "paper"), [("ps_kd", "dtskd"), ("dtskd", "dtskd"), ("teskd", "teskd"), ("loth", "loth")]
)
def test_the_demo_trains_each_method_with_the_papers_options(method, paper):
    demo, published = (
        resolve(name) for name in (f"demo/digits/resnet18/{method}", f"{paper}/cifar100/resnet18/{method}")
    )
    assert demo.options["method"] == published.options["method"]
    assert not training_differences([resolve("demo/digits/resnet18/plain"), demo])
