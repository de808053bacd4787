"""The command `selfkd`: reads the arguments, runs a verb, and reports every error."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from selfkd import process_environment
from selfkd.cli import check, compare, evaluate, export, listing, predict, train
from selfkd.error_log import error_log
from selfkd.errors import OptionError, SelfKDError, StorageError, UserError
from selfkd.given_paths import check_path
from selfkd.signals import stopping_on_signals
from selfkd.terminal import OutputClosedError, as_message, configure_logging, printable, safe_output

__all__ = ["run"]

_VERBS = (train, compare, evaluate, predict, export, check, listing)
_LONGEST_REASON = 200
_DEBUG_HELP = "show the traceback of an error"


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake like every other error, without its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` that names the help."""
        raise UserError(f"{message}; see '{self.prog} --help'")


def run(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit status, see `selfkd.cli.main`.

    Args:
        arguments: without the program's name.
    """
    given = list(arguments)
    with safe_output():
        parsed = argparse.Namespace(debug=False)
        try:
            try:
                _parse(given, parsed)
            except SystemExit as said:  # argparse has printed help
                status = int(said.code or 0)
            else:
                status = _execute(parsed)
            sys.stdout.flush()
        except OutputClosedError:
            return 0
        except BaseException as error:  # no error ends in a traceback
            status = _reported(error, given, parsed.debug)
            with suppress(OutputClosedError, StorageError):
                sys.stdout.flush()
    return status


def _parse(arguments: Sequence[str], parsed: argparse.Namespace) -> None:
    """Fill `parsed`.

    Raises:
        SystemExit: by argparse, which has printed help.
        UserError: if there is no such verb or argument.
    """
    parser = _Parser(
        prog="selfkd",
        description="Self-knowledge distillation of image classifiers: a network teaches itself while it trains.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for verb in _VERBS:
        verb.add_parser(verbs)
    for name, of_verb in verbs.choices.items():
        of_verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG_HELP)
        of_verb.set_defaults(verb=name)
    _, rest = parser.parse_known_args(arguments, parsed)
    if rest:
        # argparse takes positional arguments in one group only; those after an option are given back.
        if not hasattr(parsed, "takes") or any(each.startswith("-") for each in rest):
            _refuse(verbs.choices[parsed.verb] if hasattr(parsed, "verb") else parser, parsed, arguments, rest)
        if "" in rest:
            verbs.choices[parsed.verb].error(f"one of the {parsed.takes} is empty")
        getattr(parsed, parsed.takes).extend(rest)
    if not parsed.version and not hasattr(parsed, "execute"):
        parser.print_help()
        parser.exit(2)


def _refuse(
    parser: argparse.ArgumentParser, parsed: argparse.Namespace, arguments: Sequence[str], rest: Sequence[str]
) -> NoReturn:
    """Refuse unknown arguments. The message gives the nearest known one."""
    flag = next((each for each in rest if each.startswith("-")), rest[0])
    word, _, value = flag.partition("=")
    near = difflib.get_close_matches(word, re.findall(r"--[a-z-]+", parser.format_usage()), n=1, cutoff=0.75)
    if not near and getattr(parsed, "takes", None) == "arguments":
        from selfkd.api import nearest_option

        after = arguments[arguments.index(flag) + 1 :] if flag in arguments else ()
        if not value and after and not after[0].startswith("-"):
            value = after[0]
        option = nearest_option(word, value or "...")
        near = [] if option is None else [f"{option} (options are written key=value, without dashes)"]
    parser.error(f"unrecognized arguments: {' '.join(rest)}" + "".join(f"; nearest: {each}" for each in near))


def _execute(parsed: argparse.Namespace) -> int:
    if parsed.version:
        print(version("selfkd"))
        return 0
    configure_logging(logging.INFO)
    if parsed.debug:
        sys.unraisablehook = sys.__unraisablehook__
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the current folder is gone ({error.strerror}); change to another one") from error
    for value in vars(parsed).values():
        if isinstance(value, Path):
            check_path(value)
    os.environ.update(process_environment.variables())  # torch is not imported yet
    with stopping_on_signals(), _flags_named(vars(parsed)):
        parsed.execute(parsed)
    return 0


@contextmanager
def _flags_named(arguments: Collection[str]) -> Iterator[None]:
    """Let errors name an option by its flag: `--batch-size` for `batch_size`."""
    try:
        yield
    except OptionError as error:
        if error.option not in arguments:
            raise
        raise error.renamed(f"--{error.option.replace('_', '-')}") from error


def _reported(error: BaseException, arguments: Sequence[str], debug: bool) -> int:
    """Print what went wrong. Returns the exit status."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SelfKDError):
        print(as_message(f"selfkd: {error}"), file=sys.stderr)
        return error.exit_status
    if isinstance(error, KeyboardInterrupt):
        print("selfkd: interrupted", file=sys.stderr)
        return 128 + int(getattr(error, "number", signal.SIGINT))
    reason = f"{type(error).__name__}: {_in_one_line(error)}".removesuffix(": ")
    # This ImportError is the only sign that the system has no memory to load a library.
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in reason):
        print(f"selfkd: there is too little memory for this ({reason})", file=sys.stderr)
        return 1
    print(f"selfkd: unforeseen error, please report it: {reason}; {error_log(error, arguments)}", file=sys.stderr)
    return 1


def _in_one_line(error: BaseException) -> str:
    """An error's message, printable and short: the first and the last line, since a traceback may lie between."""
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except Exception:  # the error cannot be shown
        return "the error has no readable message"
    ends = lines if len(lines) < 2 else [lines[0], lines[-1]]
    return printable(" ... ".join(line[:_LONGEST_REASON] for line in ends))
