"""Train one item of the queue in a process of its own; run_queue.py starts it.

    python benchmarks/gpu/train_item.py RECIPE RUNS key=value ...

Ctrl-C stops it; started again, it continues from its last checkpoint.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from run_records import STOPPED, note_usage

from selfkd.errors import RunInterruptedError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
    name, runs, *overrides = arguments
    recipe = resolve(name, split_overrides(overrides))
    try:
        run(recipe, Path(runs), show_progress=False)
    except (KeyboardInterrupt, RunInterruptedError) as stopped:
        print(str(stopped) or "stopped before or after the epochs", flush=True)
        return STOPPED
    finally:
        note_usage(RunFolder.of(recipe, Path(runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
