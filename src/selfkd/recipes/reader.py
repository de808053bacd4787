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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from selfkd.catalogue import is_own, place_of
from selfkd.errors import OptionError, RecipeError, SelfKDError, UnknownNameError, UserError, shown
from selfkd.given_paths import lacking
from selfkd.methods import RESERVED, check_reserved, method_class
from selfkd.recipes.files import ENDINGS, read_recipe
from selfkd.recipes.option_names import every_option, nearest_keys, numeric_options, option_names
from selfkd.recipes.options_parser import option_keys, options_parser, type_of
from selfkd.recipes.sections import ALWAYS, CHOSEN, override, part, sections_of
from selfkd.recipes.values import as_given, as_written, in_words, members, other_notation, read_list, written
from selfkd.recipes.weights import options_of_weights
from selfkd.recipes.yaml_files import is_other_number
from selfkd.teachers import TEACHERS

__all__ = [
    "MACHINE",
    "Recipe",
    "derived",
    "differences",
    "is_of_machine",
    "nearest_option",
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
        "teacher.path",
        "trainer.devices",
        "trainer.threads",
        "trainer.num_nodes",
        "trainer.compile",
        "trainer.checkpoint_every",
    }
)
_OF_TEACHER = "teacher."  # begins the keys of the teacher's own recipe, and the options of where it comes from
_LONGEST_SUFFIX = 120
_LONGEST_NAME = 200  # of one folder; file systems allow 255 bytes
_LONGEST_PATH = 1000  # of all folders; systems allow 4096 bytes for a file in them
_MOST_FOLDERS = 32
_PATHS = ("data.root", "teacher.path")
_RECIPE_OF_TEACHER = "teacher.recipe"
_LARGEST_SEED = 2**32 - 1
_OPTIONS_LISTING = "'selfkd train RECIPE --help' shows all options"
_NONE = "null"  # as an override writes that an optional section has no part
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
        of_teacher: keys of the teacher's own recipe, without the `teacher.` before them, and their values as text.
    """

    name: str
    seed: int
    parts: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Any] = field(default_factory=dict)
    of_teacher: Mapping[str, str] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """All of it as flat keys, as a recipe file has them."""
        result: dict[str, Any] = {"name": self.name, "seed": self.seed}
        for section in sections_of(self.parts):
            if section in self.parts:
                result[section] = self.parts[section]
            for option, value in self.options[section].items():
                result[f"{section}.{option}"] = list(value) if isinstance(value, tuple) else value
        result |= {f"{_OF_TEACHER}{key}": value for key, value in self.of_teacher.items()}
        if self.published:
            result["published"] = dict(self.published)
        return result

    def to_yaml(self) -> str:
        """A file that resolves to this very recipe."""
        return yaml.safe_dump(self.flat(), sort_keys=False, allow_unicode=True)

    def build(self, section: str, /, *arguments: Any, **others: Any) -> Any:
        """Build the part of a section with the recipe's options; `partial(recipe.build, "optimizer")` is a factory.

        Args:
            section: of the recipe.
            arguments: what the part takes before its options: K for a network, the parameters for an optimiser.
            others: keyword arguments beside the options, or in place of some.
        Raises: UserError: if an option is not allowed, or the user's own part fails; the message says where.
        """
        try:
            return self.target(section)(*arguments, **{**self.options[section], **others})
        except OptionError as error:
            if "." in error.option:
                raise
            raise OptionError(f"{section}.{error.option}", error.value, error.allowed) from error

    def target(self, section: str) -> Callable[..., Any]:
        """The class or function that a section configures. The user's own raises a `UserError` whatever fails in it."""
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
        bare = key.removeprefix(_OF_TEACHER)
        section, _, option = bare.partition(".")
        may_be_own = section in CHOSEN and CHOSEN[section].catalogue.takes_own and option
        if key not in known and bare not in known and not may_be_own:
            kind = overrides.get("teacher")
            of_teacher = key.startswith(_OF_TEACHER) and kind in TEACHERS
            near = _keys_of_teacher(str(kind), bare) if of_teacher else known
            raise _unknown_option(key, text, near, _OPTIONS_LISTING)
    return overrides


def is_of_machine(key: str) -> bool:
    """Whether a flat key, of a recipe or of a teacher's, belongs to a machine and not to the experiment."""
    return key in MACHINE or (key.startswith(_OF_TEACHER) and is_of_machine(key.removeprefix(_OF_TEACHER)))


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
        f"{each}={written(value)}" if len(str(value)) < _LONGEST_HINT else each for each in nearest_keys(key, known)
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
    named = sorted(key for key in overrides if not is_of_machine(key) and key != "seed")
    changed = {key: _without_folder(key, after.get(key)) for key in named if before.get(key) != after.get(key)}
    return replace(
        recipe,
        name=_checked_name(run_name + _suffix(changed)) if own_name is None else run_name,
        published={} if changed else published,
    )


def derived(recipe: Recipe, changes: Mapping[str, Any], without: Collection[str] = ()) -> Recipe:
    """A resolved recipe with other keys, under the same name.

    Args:
        recipe: what it is derived from.
        changes: flat keys that replace the recipe's; None takes an optional section away.
        without: flat keys of the recipe that are left to their defaults.
    Raises: UserError: as `resolve`.
    """
    kept = {key: value for key, value in recipe.flat().items() if key not in {"name", "published", *without}}
    return _resolved(recipe.name, override(kept, changes), {})


def _refuse_imports(name: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    takes_own = [section for section, chosen in CHOSEN.items() if chosen.catalogue.takes_own]
    for key in (*takes_own, *(f"{_OF_TEACHER}{section}" for section in takes_own)):
        value = given.get(key)
        if isinstance(value, str) and is_own(value) and key not in overrides:
            raise RecipeError(
                f"{name} names the {key} {value!r}, whose import runs code; "
                f"if you trust it, say so with {key}={value} (when training) or --trust-imports"
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
    keys = [key for key in dict.fromkeys((*before, *after)) if not is_of_machine(key) and key != "published"]
    return [
        f"{key}: {shown(before.get(key))} there, {shown(after.get(key))} now"
        for key in keys
        if before.get(key) != after.get(key)
    ]


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


def _parsed_value(parsed: Mapping[str, Any], key: str) -> Any:
    section, _, option = key.partition(".")
    return parsed[section][option] if option else parsed[section]


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(ENDINGS) else name


def _without_folder(key: str, value: Any) -> Any:
    """A value as it stands in a run's name: of a teacher's recipe, the name that the recipe itself has."""
    return _stem(value) if key == _RECIPE_OF_TEACHER and isinstance(value, str) else value


def _suffix(changed: Mapping[str, Any]) -> str:
    """What overrides add to a run's name."""
    suffix = "".join(f"+{key}={written(value)}" for key, value in changed.items()).replace("/", "_").replace(" ", "")
    if len(suffix) > _LONGEST_SUFFIX or "\\" in suffix or not suffix.isprintable():
        suffix = "+" + hashlib.sha256(suffix.encode(errors="surrogatepass")).hexdigest()[:12]
    return suffix


def _resolved(name: str, flat: Mapping[str, Any], published: Mapping[str, Any]) -> Recipe:
    merged = dict(flat)
    of_teacher = _taken_of_teacher(merged)
    parts = _parts(merged)
    _check_names(parts, merged)
    _check_notation(parts, merged)
    method = method_class(parts["method"])
    removals = {section: f"{section}={_NONE} takes it away" for section in RESERVED if section in flat}
    check_reserved(parts["method"], method, [section for section in RESERVED if section in parts], removals)
    if method.needs.teacher and "teacher" not in parts:
        raise RecipeError(
            f"method {parts['method']!r} learns from a teacher, and the recipe names none; for example "
            "teacher=recipe teacher.recipe=<name>, or teacher=run teacher.path=<folder>"
        )
    if method.needs.peer:
        _complete_peer(parts, merged)
    seed, options = _checked_options(parts, merged)
    for section, followed in options_of_weights(parts, options, merged).items():
        options[section] |= followed
    buildable = [section for section in parts if CHOSEN[section].leading == 0]
    for section in (*buildable, *ALWAYS):  # all that can be built without data check their ranges now
        part(section, parts.get(section))(**options[section])
    for section, chosen in parts.items():
        if is_own(chosen):
            _check_plain(f"{section} {chosen!r}", section, options[section])
    return Recipe(name, seed, parts, options, published, of_teacher)


def _taken_of_teacher(merged: dict[str, Any]) -> dict[str, str]:
    """The keys of the teacher's own recipe, taken out of flat keys; their values are for that recipe to read.

    Raises:
        UnknownNameError: if no recipe has such a key.
        RecipeError: if such a key, or an option of another kind of teacher, has no meaning for this kind.
    """
    kind = merged.get("teacher")
    if not isinstance(kind, str) or kind not in TEACHERS:
        return {}  # there is none, or no such one, which is said where parts are looked up
    taken: dict[str, str] = {}
    origin = TEACHERS.load(kind)
    own, known = option_names("teacher", kind) or (), _all_keys()
    of_others = {option for other in TEACHERS for option in option_names("teacher", other) or ()}
    for key in [key for key in merged if key.startswith(_OF_TEACHER) and key not in own]:
        value, bare = merged.pop(key), key.removeprefix(_OF_TEACHER)
        section = bare.partition(".")[0]
        named = (merged.get(section), merged.get(f"{_OF_TEACHER}{section}"), taken.get(section))
        # Options of somebody's own part are not known yet.
        unknown = bare not in known and not any(is_own(str(name)) for name in named)
        if unknown and key not in of_others:
            raise _unknown_option(key, value, _keys_of_teacher(kind, bare), f"{_OPTIONS_LISTING} of a recipe")
        if unknown or not origin.takes(bare):
            keys = ("<key of its recipe>",) if origin.keys is None else origin.keys
            others = [*own, *(f"{_OF_TEACHER}{each}" for each in keys)]
            raise RecipeError(
                f"{key}={shown(value)} has no meaning with teacher={kind}, which takes {', '.join(others) or 'nothing'}"
            )
        taken[bare] = written(value)
    return taken


def _keys_of_teacher(kind: str, bare: str) -> list[str]:
    """What a kind of teacher takes, in full, for somebody who has written `teacher.<bare>`.

    Options of its own teacher are among them only where those were meant.
    """
    origin = TEACHERS.load(kind)
    meant = [key for key in _all_keys() if bare.startswith(_OF_TEACHER) or not key.startswith(_OF_TEACHER)]
    return [*(option_names("teacher", kind) or ()), *(f"{_OF_TEACHER}{key}" for key in meant if origin.takes(key))]


def _complete_peer(parts: dict[str, str], merged: dict[str, Any]) -> None:
    """Let the peer be like the backbone in all that is not said of it."""
    if parts.setdefault("peer", parts["backbone"]) == parts["backbone"]:
        for key in [key for key in merged if key.startswith("backbone.")]:
            merged.setdefault(f"peer.{key.removeprefix('backbone.')}", merged[key])


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
    for section in sections_of(parts):
        names = option_names(section, parts.get(section))
        known += names or ()
        if names is None:
            own.add(section)
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if option and section in CHOSEN and section not in parts:
            raise RecipeError(
                f"{key}={shown(value)} has no meaning without {section}=<name>; {CHOSEN[section].catalogue.listing}"
            )
        if key not in known and not (option and section in own):
            raise _unknown_option(key, value, [*known, *CHOSEN, "name"], _listing(section, parts))


def _check_notation(parts: Mapping[str, str], flat: Mapping[str, Any]) -> None:
    """Refuse numbers that are not in plain decimals, without importing a part, where its source says what it takes."""
    numeric = [key for section in sections_of(parts) for key in numeric_options(section, parts.get(section))]
    for key in ("seed", *numeric):
        if any(isinstance(each, str) and is_other_number(each) for each in members(read_list(key, flat.get(key)))):
            raise other_notation(key, flat[key])


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


def _checked_path(key: str, text: str) -> str:
    """An option that is a path, as an absolute one.

    Raises: RecipeError: if nothing can have this name; whether there is something, its reader says.
    """

    def refused(allowed: str) -> RecipeError:
        return RecipeError(f"{key}={shown(text)} is not allowed; {key} must be {allowed}")

    if not text.strip():
        raise refused("the path of a folder ('.' is the current one)" if key == "data.root" else "a path")
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
    if "peer" not in merged and any(key.startswith("peer.") for key in merged):
        merged["peer"] = merged.get("backbone")
    for section, chosen in CHOSEN.items():
        if chosen.optional and merged.get(section) in (None, _NONE):
            merged.pop(section, None)
            continue
        if section not in merged:
            raise RecipeError(f"the recipe names no {section}; add '{section}: <name>'")
        if not isinstance(merged[section], str):
            raise RecipeError(f"{section}={shown(merged[section])} is not allowed; {section} must be a name")
        parts[section] = merged.pop(section)
    return parts


def _checked_options(parts: Mapping[str, str], flat: Mapping[str, Any]) -> tuple[int, dict[str, dict[str, Any]]]:
    parser = options_parser(parts)
    known = set(option_keys(parser))
    kinds = {action.dest: type_of(action) for action in parser._actions}
    nested: dict[str, Any] = {section: {} for section in sections_of(parts)}
    values: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, option = key.partition(".")
        if key not in known:
            raise _unknown_option(key, value, [*known, *CHOSEN, "name"], _listing(section, parts))
        values[key] = as_given(key, value, kinds[key])
        if option:
            nested[section][option] = values[key]
        else:
            nested[key] = values[key]
    try:
        parsed = parser.parse_object(nested).as_dict()
    except (argparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        named = re.match(r'Parser key "([\w.]+)":', str(error))
        if named and named[1] in flat:
            allowed = in_words(kinds[named[1]])
            raise RecipeError(
                f"{named[1]}={shown(flat[named[1]])} is not allowed; {named[1]} must be {allowed}"
            ) from error
        text = re.sub(r'Parser key "([\w.]+)":', r"\1:", " ".join(str(error).split()))
        raise RecipeError(re.sub(r"<class '(\w+)'>|typing\.", r"\1", text)) from error
    for key, value in values.items():
        section, _, option = key.partition(".")
        holder, place = (parsed[section], option) if option else (parsed, section)
        holder[place] = as_written(key, value, holder[place], kinds[key])
    if parsed["seed"] is None or not 0 <= parsed["seed"] <= _LARGEST_SEED:
        raise RecipeError(f"seed={shown(parsed['seed'])} is not allowed; seed must be from 0 to {_LARGEST_SEED}")
    defaults = parser.get_defaults().as_flat()
    for key in flat:
        if _parsed_value(parsed, key) is None and getattr(defaults, key) is not None:
            raise RecipeError(f"{key}=null is not allowed; leave the key out for its default {getattr(defaults, key)}")
    options = {section: dict(parsed.get(section) or {}) for section in sections_of(parts)}
    for key in (*_PATHS, _RECIPE_OF_TEACHER):
        section, _, option = key.partition(".")
        path = options.get(section, {}).get(option)
        if path is not None and (key in _PATHS or path.endswith(ENDINGS)):
            options[section][option] = _checked_path(key, path)
    return parsed["seed"], options
