"""The options of data set and augmentation that follow the weights from which a recipe's network starts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from selfkd.backbones.pretrained import preprocessing_of
from selfkd.contract import Preprocessing
from selfkd.data.sources.preprocessing import followed_options, following_keys
from selfkd.errors import RecipeError, shown
from selfkd.given_paths import is_there
from selfkd.recipes.recipe import Recipe
from selfkd.recipes.values import written

__all__ = ["following_weights", "normalization_origin", "preprocessing_of_weights"]


def following_weights(recipe: Recipe, given: Collection[str]) -> Recipe:
    """The recipe whose data and augmentation are prepared as the weights of its backbone expect it.

    Options that were given stay, and the others are `Recipe.following`. If the file of weights is gone, these stay as
    well and are `Recipe.undecided`.

    Args:
        recipe: with the value of every option.
        given: flat keys of the options that the user gave.
    Raises:
        RecipeError: if a network has two origins of its weights.
        WeightsError: if a file of weights is damaged.
    """
    for section in ("backbone", "peer"):
        file = recipe.file_of_weights(section)
        if file is not None and recipe.options[section].get("pretrained") is True:
            raise RecipeError(
                f"{section}.weights={shown(str(file))} and {section}.pretrained=true are two origins of the first "
                f"weights; leave one of them out: {section}.pretrained=false or {section}.weights=null"
            )
    following = following_keys(recipe.options, given)
    if not following:
        return recipe
    recipe = replace(recipe, following=recipe.following | following)
    file = recipe.file_of_weights("backbone")
    if file is not None and not is_there(file):
        return replace(recipe, undecided=following)
    preprocessing = preprocessing_of_weights(recipe)
    if preprocessing is None:
        return recipe
    followed = followed_options(preprocessing, recipe.options, given)
    options = {section: {**values, **followed.get(section, {})} for section, values in recipe.options.items()}
    return replace(recipe, options=options)


def preprocessing_of_weights(recipe: Recipe) -> Preprocessing | None:
    """How images are prepared for the weights that a recipe's backbone starts from.

    What selfkd wrote into a file of weights comes first, then what is published for the network. Older versions wrote
    only the size of the images.

    Returns: None if the network starts from random weights, if the file is gone, or if nothing is known.
    Raises: WeightsError: if the file is damaged.
    """
    name, file = recipe.parts["backbone"], recipe.file_of_weights("backbone")
    if file is None:
        return preprocessing_of(name) if recipe.options["backbone"].get("pretrained") else None
    if not is_there(file):
        return None
    from selfkd.export.network_metadata import read_metadata  # imports torch

    metadata = read_metadata(file, "backbone.weights")
    published = preprocessing_of(name)
    if metadata is None or metadata.input_size is None:
        return published
    if metadata.preprocessing is not None:
        return metadata.preprocessing
    side = metadata.input_size[-1]
    if published is None:
        return Preprocessing(mean=(), std=(), interpolation=None, side=side, crop_fraction=1.0)
    return replace(published, side=side, crop_fraction=1.0)


def normalization_origin(recipe: Recipe) -> str | None:
    """Where the normalisation of images comes from, as a sentence with its values.

    Args:
        recipe: a resolved recipe.
    Returns: None if the user or the recipe set it, and if the backbone does not start from a file that is there.
    Raises: WeightsError: if the file is damaged.
    """
    file = recipe.file_of_weights("backbone")
    if file is None or not is_there(file) or "data.mean" not in recipe.following:
        return None
    from selfkd.export.network_metadata import read_metadata  # imports torch

    metadata = read_metadata(file, "backbone.weights")
    values = " ".join(f"data.{key}={written(recipe.options['data'][key])}" for key in ("mean", "std"))
    if metadata is not None and metadata.preprocessing is not None:
        return f"images are normalised as {file} says: {values}"
    source = f"data={recipe.parts['data']}"
    if preprocessing_of(recipe.parts["backbone"]) is not None:
        source = f"the published weights of {recipe.parts['backbone']}"
    return f"{file} does not say how images were normalised; the values of {source} are used: {values}"
