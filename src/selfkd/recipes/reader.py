"""Recipes resolved against what they configure: data set, backbone, method and schedule, with every option checked.

A recipe is flat YAML: `method: dtskd` names a part, `method.beta_max: 0.9` sets one of its options. What options exist
is said by the signature of the part itself; jsonargparse checks types against it. Names are checked before that, from
the sources, so that a slip of the pen is answered before torch is loaded.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from selfkd.catalogue import is_own, place_of
from selfkd.errors import RecipeError, SelfKDError, UnknownNameError, UserError, shown
from selfkd.given_paths import lacking
from selfkd.recipes.files import ENDINGS, read_recipe
from selfkd.recipes.option_names import every_option, nearest_keys, numeric_options, option_names
from selfkd.recipes.sections import ALWAYS, CHOSEN, SECTIONS, override, part
from selfkd.recipes.weights import options_of_weights
from selfkd.recipes.yaml_files import is_other_number, is_plain_number, list_value
from selfkd.terminal import printable

__all__ = [
    "MACHINE",
    "Recipe",
    "differences",
    "nearest_option",
    "options_help",
    "resolve",
    "split_overrides",
]

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
        "trainer.threads",
        "trainer.num_nodes",
        "trainer.compile",
        "trainer.checkpoint_every",
    }
)
_UNNAMED = MACHINE | {"seed"}
_LONGEST_SUFFIX = 120
_LONGEST_NAME = 200  # of one folder; file systems allow 255 bytes
_LONGEST_PATH = 1000  # of all folders; systems allow 4096 bytes for a file in them
_MOST_FOLDERS = 32
_LIST = "a list [...]"
_WORDS = {
    int: ["a whole number"],
    float: ["a number"],
    bool: ["true", "false"],
    str: ["a text"],
    type(None): ["null"],
    Any: ["any value"],
    list: [_LIST],
    tuple: [_LIST],
}
_LARGEST_SEED = 2**32 - 1
_NOTATION = """\
Numbers are written in plain decimals: 1000, 0.5, 1e-4; not 1_000, 010 or 1:30. A list is written
[1,2]; null stands for no value.
"""
_OPTIONS_LISTING = "'selfkd train RECIPE --help' shows all options"
_MOST_DIGITS = 100
_LONGEST_HINT = 40  # of a value that is repeated behind the right key


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
        for section in SECTIONS:
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
        """What the section configures, to be called with `options[section]`.

        An error of somebody's own part is a `UserError` that says where it was raised.
        """
        name = self.parts.get(section)
        target = part(section, name)
        return _naming_errors(f"{section} {name!r}", target) if name is not None and is_own(name) else target

    def with_seed(self, seed: int) -> Recipe:
        """The same experiment from another seed."""
        return replace(self, seed=seed)


def split_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` arguments as a mapping; values stay text, which the option's type reads.

    Raises:
        RecipeError: if an argument has another form, or a key comes twice.
        UnknownNameError: if a key is no option of any part; the message gives the nearest.
    """
    overrides: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or not key:
            raise RecipeError(f"{shown(argument)} is no override; write key=value, for example trainer.epochs=15")
        if key in overrides:
            raise RecipeError(f"{key} is given twice")
        overrides[key] = text
    known = _all_keys()
    for key, text in overrides.items():
        section, _, option = key.partition(".")
        may_be_own = section in CHOSEN and CHOSEN[section].catalogue.takes_own and option
        if key not in known and not may_be_own:
            raise _unknown_option(key, text, known, _OPTIONS_LISTING)
    return overrides


def nearest_option(word: str, value: str = "...") -> str | None:
    """The override that somebody may have meant, `trainer.epochs=3` for `--epochs` and 3; None if nothing is near.

    Args:
        word: what was written, with or without dashes before it.
        value: what was written as its value.
    """
    near = nearest_keys(word.lstrip("-").partition("=")[0], _all_keys())
    return f"{near[0]}={value}" if near else None


def _all_keys() -> tuple[str, ...]:
    """Every key that an override can have."""
    return (*every_option(), *CHOSEN, "name")


def _unknown_option(key: str, value: object, known: Sequence[str], listing: str) -> UnknownNameError:
    near = [
        f"{each}={_written(value)}" if len(str(value)) < _LONGEST_HINT else each for each in nearest_keys(key, known)
    ]
    return UnknownNameError("option", key, known, listing, near)


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
    if not isinstance(given.get("published", {}), Mapping):
        raise RecipeError(f"{name}: published={shown(given['published'])} is not allowed; it must be a mapping")
    if not trust_imports:
        _refuse_imports(name, given, overrides)
    stem = str(given.pop("name", None) or _stem(name))
    published = given.pop("published", {})
    own_name = overrides.pop("name", None)
    run_name = _checked_name(stem if own_name is None else str(own_name))
    if not overrides:
        return _resolved(run_name, given, published)
    merged = override(given, overrides)
    recipe = _resolved(run_name, merged, {})
    before, after = _flat_or_incomplete(run_name, given, merged), recipe.flat()
    changed = {key: after[key] for key in sorted(overrides) if key not in _UNNAMED and before.get(key) != after[key]}
    return replace(
        recipe,
        name=_checked_name(run_name + _suffix(changed)) if own_name is None else run_name,
        published={} if changed else published,
    )


def _refuse_imports(name: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    for section, chosen in CHOSEN.items():
        value = given.get(section)
        if chosen.catalogue.takes_own and isinstance(value, str) and is_own(value) and section not in overrides:
            raise RecipeError(
                f"{name} names the {section} {value!r}, whose import runs code; "
                f"if you trust it, say so with {section}={value} (when training) or --trust-imports"
            )


def _flat_or_incomplete(stem: str, given: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its overrides, flat; as the file has it where overrides complete it or replace foreign code."""
    if any(is_own(str(given.get(section))) and given[section] != merged[section] for section in CHOSEN):
        return dict(given)
    try:
        return _resolved(stem, given, {}).flat()
    except UserError:
        return dict(given)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What distinguishes two experiments, given as flat keys, in words; what belongs to a machine does not count."""
    keys = [key for key in dict.fromkeys((*before, *after)) if key not in MACHINE and key != "published"]
    return [
        f"{key}: {shown(before.get(key))} there, {shown(after.get(key))} now"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def options_parser(parts: Mapping[str, str]) -> ArgumentParser:
    """A jsonargparse parser that knows every option of the chosen parts, from their signatures and docstrings."""
    parser = ArgumentParser(
        exit_on_error=False, add_help=False, default_env=False, usage=argparse.SUPPRESS, formatter_class=_KeyValueHelp
    )
    parser.add_argument("--seed", type=int, default=0, help="number from which everything random is drawn")
    for section in SECTIONS:
        name = parts.get(section)
        target = part(section, name)
        skipped = CHOSEN[section].leading if section in CHOSEN else 0
        if isinstance(target, functools.partial):
            skipped += len(target.args)
            target = target.func
        add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
        try:
            add(target, section, skip={skipped} if skipped else set(), fail_untyped=False)
        except Exception as error:
            if name is None or not is_own(name):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"the parameters of {section} {name!r} cannot be read as options: {reason}") from error
    return parser


def _naming_errors(said: str, factory: Callable[..., Any]) -> Callable[..., Any]:
    """Somebody's own part, with its signature; what it raises when it is built is named with its place."""

    @functools.wraps(factory)
    def build(*arguments: Any, **options: Any) -> Any:
        try:
            return factory(*arguments, **options)
        except SelfKDError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}{place_of(error.__traceback__)}"
            raise UserError(f"{said} raised {reason}") from error

    return build


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
        f"  {section}={recipe.parts[section]}\n{_others(section, recipe.parts[section])}" for section in CHOSEN
    )
    return f"parts, each with its own options below:\n{chosen}\n\n{parser.format_help()}\n{_NOTATION}"


def _others(section: str, name: str) -> str:
    chosen = CHOSEN[section]
    others = [other for other in chosen.catalogue if other != name]
    others += [others_in_words for others_in_words, _ in chosen.others]
    if chosen.catalogue.takes_own:
        others.append("package.module:Name")
    indent = " " * 6
    width = shutil.get_terminal_size().columns - 2
    return textwrap.fill(
        f"or {', '.join(others)}", width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _type_of(action: argparse.Action) -> Any:
    return getattr(action, "_typehint", None) or action.type


def _in_words(kind: Any) -> str:
    """What values a type allows."""
    *others, last = sorted(_alternatives(kind), key=lambda words: words.startswith(_LIST))
    return f"{', '.join(others)} or {last}" if others else last


def _alternatives(kind: Any) -> list[str]:
    members = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return [words for member in members for words in _alternatives(member)]
    if origin is typing.Literal:
        return [_written(member) for member in members]
    if origin in (tuple, list) and members:
        number = "" if origin is list or members[-1] is Ellipsis else f" of {len(members)}"
        return [f"{_LIST}{number}, each {_in_words(members[0])}"]
    return _WORDS.get(kind) or [str(getattr(kind, "__name__", kind))]


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
        said = re.sub(r"\bNone\b", "null", action.help or "")  # docstrings speak to Python, too
        return f"{said} ({_in_words(_type_of(action))})".strip()

    def _split_lines(self, text: str, width: int) -> list[str]:
        # Names and values stay whole: bf16-mixed, /data/photos.
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(ENDINGS) else name


def _suffix(changed: Mapping[str, Any]) -> str:
    """What overrides add to a run's name."""
    suffix = "".join(f"+{key}={_written(value)}" for key, value in changed.items()).replace("/", "_").replace(" ", "")
    if len(suffix) > _LONGEST_SUFFIX or "\\" in suffix or not suffix.isprintable():
        suffix = "+" + hashlib.sha256(suffix.encode(errors="surrogatepass")).hexdigest()[:12]
    return suffix


def _resolved(name: str, flat: Mapping[str, Any], published: Mapping[str, Any]) -> Recipe:
    merged = dict(flat)
    parts = _parts(merged)
    _check_names(parts, merged)
    _check_notation(parts, merged)
    seed, options = _checked_options(parts, merged)
    for section, followed in options_of_weights(parts, options, merged).items():
        options[section] |= followed
    for section in ("data", "augmentation", *ALWAYS):  # all that can be built without data check their ranges now
        part(section, parts.get(section))(**options[section])
    for section, chosen in parts.items():
        if is_own(chosen):
            _check_plain(f"{section} {chosen!r}", section, options[section])
    return Recipe(name, seed, parts, options, published)


def _check_plain(said: str, section: str, options: Mapping[str, Any]) -> None:
    """Refuse defaults of somebody's own part that a run's recipe could not keep."""
    for option, value in options.items():
        try:
            yaml.safe_dump(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"{said} has the option {section}.{option}={shown(value)}, which a recipe cannot hold; "
                "options must be numbers, texts, true, false, null, or lists of them"
            ) from error


def _check_names(parts: Mapping[str, str], flat: Mapping[str, Any]) -> None:
    """Refuse parts and options that do not exist, without importing a part; those of somebody's own are left."""
    known = ["seed"]
    own = set()
    for section in SECTIONS:
        names = option_names(section, parts.get(section))
        known += names or ()
        if names is None:
            own.add(section)
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if key not in known and not (option and section in own):
            raise _unknown_option(key, value, [*known, *CHOSEN, "name"], _listing(section, parts))


def _check_notation(parts: Mapping[str, str], flat: Mapping[str, Any]) -> None:
    """Refuse numbers that are not in plain decimals, without importing a part, where its source says what it takes."""
    numeric = [key for section in SECTIONS for key in numeric_options(section, parts.get(section))]
    for key in ("seed", *numeric):
        if any(isinstance(each, str) and is_other_number(each) for each in _members(_read_list(key, flat.get(key)))):
            raise _other_notation(key, flat[key])


def _listing(section: str, parts: Mapping[str, str]) -> str:
    return f"{_OPTIONS_LISTING} of {section} {parts[section]!r}" if section in parts else _OPTIONS_LISTING


def _checked_name(name: str) -> str:
    folders = Path(name).parts
    if not name or name.startswith(("/", ".")) or ".." in folders or "\\" in name:
        raise RecipeError(f"name={shown(name)} is not allowed; name must be a relative path without '..'")
    if not name.isprintable():
        raise RecipeError(f"name={shown(name)} is not allowed; name must have printable characters only")
    if any(len(folder.encode()) > _LONGEST_NAME for folder in folders):
        raise RecipeError(f"name={shown(name)} is not allowed; each part may have at most {_LONGEST_NAME} bytes")
    if len(folders) > _MOST_FOLDERS or len(name.encode()) > _LONGEST_PATH:
        raise RecipeError(
            f"name={shown(name)} is not allowed; name may have at most {_MOST_FOLDERS} parts and {_LONGEST_PATH} bytes"
        )
    return name


def _checked_root(text: str) -> str:
    """The option `data.root` as an absolute path.

    Raises: RecipeError: if no folder can have this name; whether there is one, the data set says.
    """

    def refused(allowed: str) -> RecipeError:
        return RecipeError(f"data.root={shown(text)} is not allowed; data.root must be {allowed}")

    if not text.strip():
        raise refused("the path of a folder ('.' is the current one)")
    try:
        path = Path(text).expanduser().resolve()
    except RuntimeError as error:
        raise refused("a path that begins with the name of a known user, or without ~") from error
    except (OSError, ValueError):  # too long, or with null bytes
        path = Path(text)
    wanted = lacking(path)
    if wanted is not None:
        raise refused(wanted)
    return str(path)


def _parts(merged: dict[str, Any]) -> dict[str, str]:
    parts: dict[str, str] = {}
    for section in CHOSEN:
        if section not in merged:
            raise RecipeError(f"the recipe names no {section}; add '{section}: <name>'")
        if not isinstance(merged[section], str):
            raise RecipeError(f"{section}={shown(merged[section])} is not allowed; {section} must be a name")
        parts[section] = merged.pop(section)
    return parts


def _checked_options(parts: Mapping[str, str], flat: Mapping[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    parser = options_parser(parts)
    known = set(option_keys(parser))
    kinds = {action.dest: _type_of(action) for action in parser._actions}
    nested: dict[str, Any] = {section: {} for section in SECTIONS}
    values: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if key not in known:
            raise _unknown_option(key, value, [*known, *CHOSEN, "name"], _listing(section, parts))
        values[key] = _as_given(key, value, kinds[key])
        if option:
            nested[section][option] = values[key]
        else:
            nested[key] = values[key]
    try:
        parsed = parser.parse_object(nested).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        named = re.match(r'Parser key "([\w.]+)":', str(error))
        if named and named[1] in flat:
            allowed = _in_words(kinds[named[1]])
            raise RecipeError(
                f"{named[1]}={shown(flat[named[1]])} is not allowed; {named[1]} must be {allowed}"
            ) from error
        text = re.sub(r'Parser key "([\w.]+)":', r"\1:", " ".join(str(error).split()))
        raise RecipeError(re.sub(r"<class '(\w+)'>|typing\.", r"\1", text)) from error
    for key, value in values.items():
        section, _, option = key.partition(".")
        holder, place = (parsed[section], option) if option else (parsed, section)
        holder[place] = _as_written(key, value, holder[place], kinds[key])
    if parsed["seed"] is None or not 0 <= parsed["seed"] <= _LARGEST_SEED:
        raise RecipeError(f"seed={shown(parsed['seed'])} is not allowed; seed must be from 0 to {_LARGEST_SEED}")
    defaults = parser.get_defaults().as_flat()
    for key in flat:
        if _parsed_value(parsed, key) is None and getattr(defaults, key) is not None:
            raise RecipeError(f"{key}=null is not allowed; leave the key out for its default {getattr(defaults, key)}")
    options = {section: dict(parsed.get(section) or {}) for section in SECTIONS}
    if options["data"].get("root") is not None:
        options["data"]["root"] = _checked_root(options["data"]["root"])
    return parsed["seed"], options


def _as_given(key: str, value: Any, kind: Any) -> Any:
    """A value as jsonargparse is to read it.

    Raises: RecipeError: if it can be no value of any option of this type, naming the option.
    """
    if isinstance(value, str) and not _takes_text(kind):
        written = _read_list(key, value)
        if written is value and value.lstrip().startswith("["):
            raise RecipeError(f"{key}={shown(value)} is not allowed; {key} must be {_in_words(kind)}")
        value = written
    if any(isinstance(each, str) and is_plain_number(each) and len(each) > _MOST_DIGITS for each in _members(value)):
        raise RecipeError(f"{key}={shown(value)} is not allowed; write numbers in at most {_MOST_DIGITS} characters")
    # As text a number can be whatever the option's type makes of it: 32 a precision, 1 a float.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _read_list(key: str, value: Any) -> Any:
    """A value; where it is the text of a list, that list.

    Raises: RecipeError: if the list is beyond the limits, naming the option.
    """
    try:
        written = list_value(value) if isinstance(value, str) else None
    except RecipeError as error:
        raise RecipeError(f"{key}={shown(value)} is not allowed; {error}") from error
    return value if written is None else written


def _other_notation(key: str, value: Any) -> RecipeError:
    return RecipeError(
        f"{key}={shown(value)} is not allowed; write numbers in plain decimals: no zeros before them, no underscores, "
        "no colons"
    )


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _takes_text(kind: Any) -> bool:
    """Whether any text is a value of a type."""
    return kind is str or str in typing.get_args(kind)


def _as_written(key: str, given: Any, read: Any, kind: Any) -> Any:
    """What jsonargparse read, but text where it took for a number what is not written as one: `010`, `1:30`, `1_000`.

    Raises: RecipeError: if the option takes no text, naming the option.
    """
    if isinstance(given, list) and isinstance(read, list | tuple) and len(given) == len(read):
        inner = next(
            (each for each in (kind, *typing.get_args(kind)) if typing.get_origin(each) in (tuple, list)), None
        )
        members = [
            _as_written(key, *each, (typing.get_args(inner) or (None,))[0]) for each in zip(given, read, strict=True)
        ]
        return type(read)(members)
    if not isinstance(given, str) or is_plain_number(given):
        return read
    if isinstance(read, bool) or not isinstance(read, int | float):
        return read
    if _takes_text(kind):
        return given
    raise _other_notation(key, given)
