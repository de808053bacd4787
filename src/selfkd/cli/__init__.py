"""The command `selfkd`: one module per verb, which parses, calls and prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from selfkd import process_environment
from selfkd.cli import check, evaluate, export, listing, predict, train
from selfkd.errors import SelfKDError

__all__ = ["main"]

_VERBS = (train, evaluate, predict, export, check, listing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; None for those of the process.
    Returns: 0 done, 1 the work failed, 2 the user's input is wrong, 130 or 143 interrupted
        by Ctrl-C or SIGTERM.
    """
    parser = argparse.ArgumentParser(
        prog="selfkd",
        description="Self-knowledge distillation of image classifiers: a network teaches itself while it trains.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for verb in _VERBS:
        verb.add_parser(verbs)
    parsed, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one group only; those after an option are given back.
    if rest and (not hasattr(parsed, "arguments") or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.arguments += rest
    if parsed.version:
        print(version("selfkd"))
        return 0
    if not hasattr(parsed, "execute"):
        parser.print_help()
        return 2
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("selfkd").setLevel(logging.INFO)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where somebody's own package.module lies, as with python -m
    os.environ.update(process_environment.variables())  # torch is not imported yet
    try:
        parsed.execute(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except SelfKDError as error:
        print(f"selfkd: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as error:
        print("selfkd: interrupted", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)
    return 0
