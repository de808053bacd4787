"""Train the next unfinished items of the queue for some minutes, and bring back a record of each finished run.

    python benchmarks/gpu/run_queue.py --data ROOT --minutes 9.3 --out DIR [--later 9] [--parallel 4]

Nothing is started that cannot finish in these minutes and the later ones; what has not finished at the end is stopped,
and the next call with the same --runs continues it from its last checkpoint. What is finished is known from
results/gpu/ and from the runs, and what failed from the runs. Nothing is trained on a part of CIFAR-100.
DIR/queue.json is for collect.py. benchmarks/gpu/README.md has the calls for a lent GPU.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from call_start import CALL_START
from pyarrow import parquet
from queue_items import QUEUE, Place, read_queue
from run_records import RESULTS, WHOLE, Bundle, Paces, device_name, read_paces, record_file
from scheduler import Limits, Scheduler

from selfkd.data.reading.parquet_files import parquet_splits


def main(
    arguments: Sequence[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    started: float | None = None,
) -> int:
    """The command.

    Args:
        arguments: of the command line.
        clock: seconds.
        started: when the time of the call began; now if left out.
    """
    parsed = _parser().parse_args(arguments)
    # A caller's time limit ends with SIGTERM: stop as at Ctrl-C, so that what trains can be continued.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    items, missing = read_queue(parsed.queue)
    for name in missing:
        print(f"skipped: {name}: there is no such recipe yet")
    pending = [item for item in items if not record_file(parsed.results, item.recipe, item.seed).exists()]
    print(f"{len(items) - len(pending)} of {len(items)} are in {parsed.results.name}/")
    if parsed.list:
        print("\n".join(f"waiting: {item}" for item in pending))
        return 0
    lacking = None if parsed.tiny else what_is_lacking(parsed.data)
    if lacking is not None:
        print(f"nothing is trained: {lacking}")
        return 2
    limits = Limits(
        now=60 * parsed.minutes,
        later=60 * parsed.later,
        grace=parsed.grace,
        start=parsed.start,
        compilation=parsed.compilation,
        end=parsed.end,
        probe=parsed.probe,
        parallel=parsed.parallel,
    )
    paces = Paces(device_name(), [*read_paces(parsed.results), *read_paces(parsed.runs)])
    place = Place(str(parsed.data), parsed.tiny, parsed.compile)
    times = {"clock": clock, "started": started}
    scheduler = Scheduler(pending, limits, parsed.runs, Bundle(parsed.out), paces, place, retry=parsed.retry, **times)
    try:
        scheduler.work()
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    return 1 if scheduler.failed else 0


def what_is_lacking(root: Path) -> str | None:
    """What a folder of Parquet files lacks of CIFAR-100, in words; None if nothing, or it holds other files."""
    files = parquet_splits(root)
    for split, images in WHOLE.items():
        rows = sum(parquet.read_metadata(file).num_rows for file in files.get(split, ()))
        if files and rows != images:
            return f"{root} holds {rows} images of the {split} split, CIFAR-100 has {images}"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-100's Parquet files")
    parser.add_argument("--minutes", type=float, required=True, help="time of this call, from its start")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is brought back")
    parser.add_argument(
        "--later", type=float, default=0, help="minutes of calls that will follow on this machine, with the same --runs"
    )
    default_runs = Path(tempfile.gettempdir()) / "selfkd-queue"
    parser.add_argument("--runs", type=Path, default=default_runs, help=f"folder of the runs ({default_runs})")
    parser.add_argument("--parallel", type=int, default=1, help="side by side at most, if measured to be faster (1)")
    parser.add_argument("--tiny", action="store_true", help="a trial: tiny networks, a few epochs")
    parser.add_argument("--compile", default="false", metavar="MODE", help="true, or a mode of torch.compile (false)")
    parser.add_argument("--retry", action="store_true", help="start again what failed in an earlier call")
    parser.add_argument("--list", action="store_true", help="only say what is finished and what waits")
    parser.add_argument("--queue", type=Path, default=QUEUE, help="the queue (queue.yaml beside this file)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished records (results/gpu)")
    parser.add_argument("--grace", type=float, default=Limits.grace, help="seconds to stop in (%(default)s)")
    parser.add_argument("--start", type=float, default=Limits.start, help="seconds before epochs (%(default)s)")
    parser.add_argument(
        "--compilation", type=float, default=Limits.compilation, help="seconds to start more if compiled (%(default)s)"
    )
    parser.add_argument("--end", type=float, default=Limits.end, help="seconds after epochs (%(default)s)")
    parser.add_argument("--probe", type=float, default=Limits.probe, help="seconds to try the unknown (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(started=CALL_START))
