"""Recipes resolved against what they configure: data set, backbone, method and schedule, with every option checked.

A recipe is flat YAML: `method: dtskd` names a part, `method.beta_max: 0.9` sets one of its options. What options exist
is said by the signature of the part itself; jsonargparse checks names and types against it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from selfkd.backbones import BACKBONES, network_factory
from selfkd.catalogue import Catalogue, import_target
from selfkd.data import AUGMENTATIONS, DATASETS
from selfkd.errors import RecipeError, UnknownNameError, UserError
from selfkd.methods import METHODS, method_class
from selfkd.recipes.files import ENDINGS, read_recipe
from selfkd.terminal import printable
from selfkd.training import OPTIMIZERS, SCHEDULES

__all__ = [
    "MACHINE",
    "Recipe",
    "differences",
    "options_help",
    "resolve",
    "split_overrides",
]

# Sections whose part is chosen by name, and how many leading arguments of the part are not configuration.
_CHOSEN: Mapping[str, tuple[Catalogue, int]] = {
    "data": (DATASETS, 0),
    "augmentation": (AUGMENTATIONS, 0),
    "backbone": (BACKBONES, 1),
    "method": (METHODS, 2),
    "optimizer": (OPTIMIZERS, 1),
    "schedule": (SCHEDULES, 3),
}
# Sections that are always there, with the class of their options.
_ALWAYS: Mapping[str, str] = {
    "regularization": "selfkd.data.regularization:Regularization",
    "loader": "selfkd.data.batches:LoaderOptions",
    "history": "selfkd.history:HistoryOptions",
    "trainer": "selfkd.training.options:TrainerOptions",
}
_SECTIONS = (*_CHOSEN, *_ALWAYS)
# What belongs to a machine is no part of the experiment: it changes neither the run's name nor its identity.
MACHINE = frozenset(
    {
        "data.root",
        "data.download",
        "data.memory_gb",
        "loader.workers",
        "loader.evaluation_batch_size",
        "loader.device_share",
        "history.storage",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.compile",
        "trainer.checkpoint_every",
    }
)
_UNNAMED = MACHINE | {"seed"}
_LONGEST_SUFFIX = 120
_LONGEST_NAME = 200  # of one folder; file systems allow 255 bytes
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: every option has its value.

    Args:
        name: the recipe's name with its overrides, which is also the run's folder.
        seed: of everything random.
        parts: section to the name of what was chosen ("method" to "dtskd").
        options: section to keyword arguments.
        published: the figure that the recipe reproduces, or empty.
    """

    name: str
    seed: int
    parts: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Any] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """All of it as flat keys, as a recipe file has them."""
        result: dict[str, Any] = {"name": self.name, "seed": self.seed}
        for section in _SECTIONS:
            if section in self.parts:
                result[section] = self.parts[section]
            for option, value in self.options[section].items():
                result[f"{section}.{option}"] = list(value) if isinstance(value, tuple) else value
        if self.published:
            result["published"] = dict(self.published)
        return result

    def to_yaml(self) -> str:
        """A file that resolves to this very recipe."""
        return yaml.safe_dump(self.flat(), sort_keys=False, allow_unicode=True)

    def target(self, section: str) -> Callable[..., Any]:
        """What the section configures, to be called with `options[section]`."""
        return _target(section, self.parts.get(section))

    def with_seed(self, seed: int) -> Recipe:
        """The same experiment from another seed."""
        return replace(self, seed=seed)


def split_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments as a mapping; values stay text, which the option's type reads.

    Raises: RecipeError: if an argument has another form, or a key comes twice.
    """
    overrides: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise RecipeError(f"{argument!r} is no override; write key=value, for example trainer.epochs=15")
        if key in overrides:
            raise RecipeError(f"{key} is given twice")
        overrides[key] = text
    return overrides


def resolve(name: str, overrides: Mapping[str, Any] | None = None, trust_imports: bool = False) -> Recipe:
    """A recipe with its overrides, names looked up and every option checked.

    Args:
        name: of a recipe of the package, or the path of a YAML file.
        overrides: flat keys that replace the recipe's; `name` replaces the run's name.
        trust_imports: let the file itself name `package.module:Name`, whose import runs code; overrides always may.
    Raises:
        UnknownNameError: if recipe, part or option do not exist (the message gives the nearest).
        RecipeError: if a value has the wrong type or a section is missing.
    """
    given = read_recipe(name)
    overrides = dict(overrides or {})
    if not trust_imports:
        _refuse_imports(name, given, overrides)
    stem = str(given.pop("name", None) or _stem(name))
    published = given.pop("published", {})
    run_name = overrides.pop("name", None)
    if not overrides:
        return _resolved(str(stem if run_name is None else run_name), given, published)
    merged = {**given, **overrides}
    # Options of a part that an override replaced go with it.
    for section in _CHOSEN:
        if section in overrides and overrides[section] != given.get(section):
            for key in [key for key in given if key.startswith(f"{section}.") and key not in overrides]:
                del merged[key]
    recipe = _resolved(stem, merged, {})
    before, after = _flat_or_incomplete(stem, given, merged), recipe.flat()
    changed = {key: after[key] for key in sorted(overrides) if key not in _UNNAMED and before.get(key) != after[key]}
    return replace(
        recipe,
        name=_checked_name(str(stem + _suffix(changed) if run_name is None else run_name)),
        published={} if changed else published,
    )


def _refuse_imports(name: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    for section, (catalogue, _) in _CHOSEN.items():
        value = given.get(section)
        if catalogue.takes_own and isinstance(value, str) and ":" in value and section not in overrides:
            raise RecipeError(
                f"{name} names the {section} {value!r}, whose import runs code; "
                f"if you trust it, say so with {section}={value} (when training) or --trust-imports"
            )


def _flat_or_incomplete(stem: str, given: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its overrides, flat; as the file has it where overrides complete it or replace foreign code."""
    if any(":" in str(given.get(section)) and given[section] != merged[section] for section in _CHOSEN):
        return dict(given)
    try:
        return _resolved(stem, given, {}).flat()
    except UserError:
        return dict(given)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What distinguishes two experiments, given as flat keys, in words; what belongs to a machine does not count."""
    keys = [key for key in dict.fromkeys((*before, *after)) if key not in MACHINE and key != "published"]
    return [
        f"{key}: {before.get(key)!r} there, {after.get(key)!r} now" for key in keys if before.get(key) != after.get(key)
    ]


def options_parser(parts: Mapping[str, str]) -> ArgumentParser:
    """A jsonargparse parser that knows every option of the chosen parts, from their signatures and docstrings."""
    parser = ArgumentParser(
        exit_on_error=False, add_help=False, default_env=False, usage=argparse.SUPPRESS, formatter_class=_KeyValueHelp
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    for section in _SECTIONS:
        target = _target(section, parts.get(section))
        skipped = _CHOSEN[section][1] if section in _CHOSEN else 0
        if isinstance(target, functools.partial):
            skipped += len(target.args)
            target = target.func
        add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
        add(target, section, skip={skipped} if skipped else set(), fail_untyped=False)
    return parser


def option_keys(parser: ArgumentParser) -> list[str]:
    """The keys that an override can name, sections apart."""
    return [action.dest for action in parser._actions if "." in action.dest or action.dest == "seed"]


def options_help(recipe: Recipe) -> str:
    """Every option of a recipe with its meaning, type and the recipe's value."""
    parser = options_parser(recipe.parts)
    flat = recipe.flat()
    parser.set_defaults({key: flat[key] for key in option_keys(parser)})
    for group in parser._action_groups:
        sections = {action.dest.partition(".")[0] for action in group._group_actions if "." in action.dest}
        for section in sections:
            group.title = f"{section}={recipe.parts[section]}" if section in recipe.parts else section
            group.description = None
    chosen = "\n".join(
        f"  {section}={recipe.parts[section]:<22} or {_others(section, recipe.parts[section])}" for section in _CHOSEN
    )
    return f"parts, each with its own options below:\n{chosen}\n\n{parser.format_help()}"


def _others(section: str, name: str) -> str:
    catalogue, _ = _CHOSEN[section]
    others = [other for other in catalogue if other != name]
    if section == "backbone":
        others.append("any timm name")
    if section in ("backbone", "method"):
        others.append("package.module:Name")
    return ", ".join(others)


def _type_of(parser: ArgumentParser, key: str) -> Any:
    action = next(action for action in parser._actions if action.dest == key)
    return getattr(action, "_typehint", None) or action.type


def _in_words(kind: Any) -> str:
    """What values a type allows."""
    members = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(member) for member in members)
    if origin is typing.Literal:
        return ", ".join(map(str, members))
    if origin in (tuple, list):
        return f"a list [...], each {_in_words(members[0])}"
    return _WORDS.get(kind) or str(getattr(kind, "__name__", kind))


def _parsed_value(parsed: Mapping[str, Any], key: str) -> Any:
    section, _, option = key.partition(".")
    return parsed[section][option] if option else parsed[section]


class _KeyValueHelp(argparse.HelpFormatter):
    """Options as they are written here: `key=value`, with type and default."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, max_help_position=40, **kwargs)

    def add_argument(self, action: argparse.Action) -> None:
        if "." in action.dest or action.dest == "seed":  # jsonargparse adds one action for each whole section
            super().add_argument(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return printable(f"{action.dest}={_written(action.default)}")

    def _expand_help(self, action: argparse.Action) -> str:
        kind = getattr(action, "_typehint", None) or action.type
        shown = re.sub(r"<class '(\w+)'>", r"\1", str(kind)).replace("typing.", "")
        return f"{action.help or ''} ({shown})".strip()


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _target(section: str, name: str | None) -> Callable[..., Any]:
    if section == "backbone":
        return network_factory(str(name))
    if section == "method":
        return method_class(str(name))
    target: Callable[..., Any] = (
        _CHOSEN[section][0].load(str(name)) if section in _CHOSEN else import_target(_ALWAYS[section])
    )
    return target


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(ENDINGS) else name


def _suffix(changed: Mapping[str, Any]) -> str:
    """What overrides add to a run's name."""
    suffix = "".join(f"+{key}={_written(value)}" for key, value in changed.items()).replace("/", "_").replace(" ", "")
    if len(suffix) > _LONGEST_SUFFIX:
        suffix = "+" + hashlib.sha256(suffix.encode()).hexdigest()[:12]
    return suffix


def _resolved(name: str, flat: Mapping[str, Any], published: Mapping[str, Any]) -> Recipe:
    merged = dict(flat)
    parts = _parts(merged)
    seed, options = _checked_options(parts, merged)
    return Recipe(_checked_name(name), seed, parts, options, published)


def _checked_name(name: str) -> str:
    if not name or name.startswith(("/", ".")) or ".." in Path(name).parts or "\\" in name:
        raise RecipeError(f"name={name!r} is not allowed; name must be a relative path without '..'")
    if any(len(part.encode()) > _LONGEST_NAME for part in Path(name).parts):
        raise RecipeError(
            f"name={name[:40] + '...'!r} is not allowed; each part may have at most {_LONGEST_NAME} bytes"
        )
    return name


def _parts(merged: dict[str, Any]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for section in _CHOSEN:
        if section not in merged:
            raise RecipeError(f"the recipe names no {section}; add '{section}: <name>'")
        if not isinstance(merged[section], str):
            raise RecipeError(f"{section}={merged[section]!r} is not allowed; {section} must be a name")
        parts[section] = merged.pop(section)
    return parts


def _checked_options(parts: Mapping[str, str], flat: Mapping[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    parser = options_parser(parts)
    known = option_keys(parser)
    nested: dict[str, Any] = {section: {} for section in _SECTIONS}
    for key, value in flat.items():
        # As text a number can be whatever the option's type makes of it: 32 a precision, 1 a float.
        text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        section, _, option = key.partition(".")
        if key not in known:
            owner = f"of {section} {parts[section]!r} " if section in parts else ""
            raise UnknownNameError(
                "option",
                key,
                [*known, *_CHOSEN, "name"],
                f"'selfkd train RECIPE --help' shows all options {owner}".strip(),
            )
        if option:
            nested[section][option] = text
        else:
            nested[key] = text
    try:
        parsed = parser.parse_object(nested).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        named = re.match(r'Parser key "([\w.]+)":', str(error))
        if named and named[1] in flat:
            allowed = _in_words(_type_of(parser, named[1]))
            raise RecipeError(f"{named[1]}={flat[named[1]]!r} is not allowed; {named[1]} must be {allowed}") from error
        text = re.sub(r'Parser key "([\w.]+)":', r"\1:", " ".join(str(error).split()))
        raise RecipeError(re.sub(r"<class '(\w+)'>|typing\.", r"\1", text)) from error
    if parsed["seed"] is None or not 0 <= parsed["seed"] <= _LARGEST_SEED:
        raise RecipeError(f"seed={parsed['seed']} is not allowed; seed must be from 0 to {_LARGEST_SEED}")
    defaults = parser.get_defaults().as_flat()
    for key in flat:
        if _parsed_value(parsed, key) is None and getattr(defaults, key) is not None:
            raise RecipeError(f"{key}=null is not allowed; leave the key out for its default {getattr(defaults, key)}")
    options = {section: dict(parsed.get(section) or {}) for section in _SECTIONS}
    if options["data"].get("root") is not None:
        options["data"]["root"] = str(Path(options["data"]["root"]).expanduser().resolve())
    return parsed["seed"], options
