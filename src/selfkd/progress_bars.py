"""Progress bars and the log: lines of text on a terminal, widgets in a notebook.

Every bar of this package is `tqdm.auto.tqdm`. In a notebook this is a widget if ipywidgets is installed, else text.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager

from tqdm.asyncio import tqdm as text_bar
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["log_above_bars", "replaces_states"]


def log_above_bars() -> AbstractContextManager[None]:
    """In this block the lines of the log stand above a progress bar, not behind it."""
    loggers = [logging.getLogger(), logging.getLogger("selfkd")]
    return logging_redirect_tqdm([each for each in loggers if any(map(_is_of_console, each.handlers))])


def replaces_states() -> bool:
    """Whether a bar replaces its former state, as on a terminal and in a notebook. In a file, every state is kept."""
    return sys.stderr.isatty() or tqdm is not text_bar


def _is_of_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
