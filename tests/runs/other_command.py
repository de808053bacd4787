"""Stands for `selfkd.runs.training_command` in tests: a real process that does something else than train.

The variable WORK names the function. Files appear in the working folder.
"""

import os
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from selfkd.errors import OptionError, RunInterruptedError
from selfkd.runs import training_command

LONG = 600


def is_first():
    return os.environ["RANK"] == "0"


def succeed():
    pass


def refuse():
    """The second process refuses an option, and the first waits for it."""
    if is_first():
        time.sleep(LONG)
    raise OptionError("trainer.shoes", 3, "two")


def fail():
    """The second process fails, and the first reports that it is interrupted because of that."""
    if not is_first():
        raise ZeroDivisionError("nobody's fault")
    try:
        time.sleep(LONG)
    except KeyboardInterrupt as stop:
        raise RunInterruptedError("stopped after epoch 1 of 2", stop.number) from stop


def lose_by_sigkill():
    _lose(signal.SIGKILL)


def lose_by_sigsegv():
    _lose(signal.SIGSEGV)


def _lose(number):
    """The second process is killed, and the first fails because of that."""
    if not is_first():
        _up()
        os.kill(os.getpid(), number)
    while not Path("1.txt").exists():
        time.sleep(0.01)
    raise RuntimeError("Connection closed by peer")


def leave_early():
    if not is_first():
        os._exit(3)
    time.sleep(LONG)


def obey():
    """Ends well when it is told to stop."""
    with suppress(KeyboardInterrupt):
        wait()


def wait():
    _up()
    time.sleep(LONG)


def hang():
    """Ignores every signal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    wait()


def write():
    """Writes to its standard error, and into a file whether that is a pipe and which file it is."""
    if is_first():
        status = os.fstat(2)
        Path("standard-error.txt").write_text(f"{stat.S_ISFIFO(status.st_mode)} {status.st_ino}")
        sys.stderr.write("\r10 % █ of it")
        sys.stderr.flush()


def _up():
    name = f"{os.environ['RANK']}.txt"
    partial = Path(f"{name}.partial")
    partial.write_text(f"{os.environ['OMP_NUM_THREADS']} threads, which wait {os.environ['OMP_WAIT_POLICY']}")
    partial.rename(name)


if __name__ == "__main__":
    training_command._train = lambda folder: globals()[os.environ["WORK"]]()
    training_command.main(Path(sys.argv[1]))
