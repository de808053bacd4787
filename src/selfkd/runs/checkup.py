"""The doctor's report about a data set that a user names. Options have the same meaning as in training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from selfkd.catalogue import is_own
from selfkd.data import DATASETS
from selfkd.data.doctor.checking import check_source
from selfkd.data.doctor.checks import Stem
from selfkd.data.doctor.findings import Report
from selfkd.data.sources.base import Source
from selfkd.errors import DataError, RecipeError
from selfkd.given_paths import data_place, is_folder
from selfkd.recipes.reader import resolve
from selfkd.runs.networks import build_network, staged_at, stem_of
from selfkd.runs.weights_files import check_exists
from selfkd.training.memory import memory_for

__all__ = ["check", "recognised"]

_RECIPE = "demo/digits/resnet18/plain"  # any recipe will do: only its data and its backbone are used
_SECTIONS = ("data", "backbone", "seed")
_CHECKED_WITH_LESS = "--quick opens no image, and data.classes checks some of the classes only"


def check(data: str, overrides: Mapping[str, str] | None = None, quick: bool = False) -> Report:
    """Check a data set.

    Args:
        data: a name in `selfkd list datasets`; a folder or a CSV file, whose layout is recognised; or the user's own
            `package.module:Name`, whose import runs code.
        overrides: `data.<option>`, `seed`, and `backbone` with its options, as for training; `data` names the data set
            that reads a folder.
        quick: open no image.
    Raises: UserError: if there is no such data set or folder, or an option is not allowed.
    """
    overrides = dict(overrides or {})
    for key in overrides:
        if key.partition(".")[0] not in _SECTIONS:
            raise RecipeError(f"check takes no {key}; it takes data.<option>, backbone, backbone.<option> and seed")
    layout = _locate(data, overrides)
    recipe = resolve(_RECIPE, overrides)
    options = recipe.options["data"]
    weights = recipe.file_of_weights("backbone")
    if weights is not None:
        check_exists(weights, "backbone.weights")
    source: Source = recipe.build("data")
    must_exist = source.root_is_folder and options.get("root") is not None and not options.get("download")
    if must_exist and not is_folder(Path(options["root"]).expanduser()):
        raise DataError(f"data.root={options['root']!r} is not a folder")
    source.check_image_size()

    def stem_at(num_classes: int, side: int) -> Stem:
        network = build_network(recipe, num_classes, pretrained=False)  # weights need not be fetched to know its shapes
        return stem_of(recipe, staged_at(network, (3, side, side)))

    with memory_for("checking this data set", _CHECKED_WITH_LESS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about files that PIL can decode; they do not name the file
        listing, findings = check_source(source, recipe.seed, stem_at if "backbone" in overrides else None, quick)
    written = [f"{key}={value}" for key, value in overrides.items()]
    if source.lacks_image_size:
        written.append("data.image_size=...")
    return Report(
        layout=layout,
        options=tuple(written),
        num_classes=len(listing.class_names),
        splits={name: int(counts.sum()) for name, counts in listing.counts.items()},
        findings=tuple(findings),
    )


def _locate(data: str, overrides: dict[str, str]) -> str:
    """Write data set and folder into the overrides, and return in words what the data set is."""
    if is_own(data) and not Path(data).exists():
        overrides["data"] = data
        return f"data set {data}"
    if data in DATASETS:
        if overrides.setdefault("data", data) != data:
            raise RecipeError(f"data={overrides['data']} contradicts {data!r}; give a folder, or one data set")
        return f"data set {data}: {DATASETS[data].summary}"
    if "data.root" in overrides:
        raise RecipeError(f"data.root={overrides['data.root']} contradicts {data!r}; give a data set, or a folder")
    place = data_place(data)
    found = recognised(place)
    name = overrides.setdefault("data", found)
    overrides["data.name" if name == "hub" else "data.root"] = str(place)  # data.root of hub is for downloads
    read_as = f" (data={name})" if name == found else f", read as data={name}"
    return f"{place} looks like {DATASETS.load(found).layout}{read_as}"


def recognised(place: Path) -> str:
    """The name of the data set that reads a folder or a CSV file.

    Raises: DataError: if it must not be read.
    """
    try:
        if place.is_file():
            return "csv"
        return next(name for name in DATASETS if DATASETS.load(name).recognises(place))
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error}") from error
