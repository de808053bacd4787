import os
import signal
import subprocess
import sys
import time

import pytest

from selfkd.signals import StopSignal, stopping_on_signals


class StopsAsItGoes:
    """Is told to stop where Python ignores every error."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def stop():
    signal.raise_signal(signal.SIGTERM)


def wait_for_the_stop():
    deadline = time.monotonic() + 20
    StopsAsItGoes()
    while time.monotonic() < deadline:
        time.sleep(0.01)


def fail_after_the_stop():
    try:
        stop()
    finally:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")


def end_slowly(ended):
    try:
        stop()
    finally:
        stop()
        ended.append(True)


@pytest.mark.parametrize("work", [wait_for_the_stop, fail_after_the_stop])
def test_a_stop_ends_the_work_wherever_it_falls(work):
    """Where Python ignores every error it comes again; and what fails after it is its consequence."""
    with pytest.raises(StopSignal) as raised, stopping_on_signals():
        work()
    assert raised.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_fails_without_a_stop_fails_as_ever():
    with pytest.raises(RuntimeError, match="by itself"), stopping_on_signals():
        raise RuntimeError("by itself")


def test_a_second_signal_does_not_break_off_the_ending():
    ended = []
    with pytest.raises(StopSignal), stopping_on_signals():
        end_slowly(ended)
    assert ended


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_forked_process_that_is_told_to_stop_ends_without_a_word(number):
    code = f"""
import os, signal, time
from selfkd.signals import stopping_on_signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
with stopping_on_signals():
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.{number})
        time.sleep(60)
        os._exit(1)
    _, status = os.waitpid(child, 0)
assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.{number}, status
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_command_that_was_stopped_ends_at_once_and_leaves_no_process():
    code = """
import atexit, multiprocessing, signal, sys, time
from selfkd.cli import command, main

def hold():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

def stopped(parsed):
    child = multiprocessing.get_context("fork").Process(target=hold, daemon=True)
    with command.stopping_on_signals():
        child.start()
        print(child.pid)
        signal.raise_signal(signal.SIGTERM)

command._execute = stopped
sys.argv = ["selfkd", "list", "methods"]
atexit.register(print, "the end of Python")
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (143, "selfkd: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_process_and_those_that_it_started_end_with_the_input():
    code = """
import multiprocessing, signal, time
from selfkd.signals import leave_when_input_ends, stopping_on_signals

def hold():
    time.sleep(600)

if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=hold)
    child.start()
    leave_when_input_ends()
    print(child.pid, flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.stdin.write("what comes in is no reason to end\n")
    process.stdin.flush()
    time.sleep(0.2)
    assert process.poll() is None
    _, errors = process.communicate(timeout=20)  # closes the input
    assert (process.returncode, errors) == (143, "")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
