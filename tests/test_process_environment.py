"""Real processes, in which the libraries themselves say what they were told when they were loaded."""

import os
import re
import subprocess
import sys

import pytest

from selfkd.process_environment import says_threads, variables

COMMAND_THEN_TORCH = "from selfkd.cli import main; main(['list', 'methods']); import torch"


def spins(**given):
    """How often a waiting thread of OpenMP looks before it sleeps, under the command."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "THP_"))}
    told = subprocess.run(
        [sys.executable, "-c", COMMAND_THEN_TORCH],
        env={**free, **given, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told.stderr)
    if not said:
        pytest.skip("torch is built with another OpenMP than GNU's")
    return {int(spins) for spins in said}


def test_waiting_threads_sleep_unless_the_user_has_said_otherwise():
    assert spins() == {0}
    assert min(spins(OMP_WAIT_POLICY="ACTIVE")) > 1_000_000


def test_the_users_values_stay(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    assert variables() == {"OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "0"}


def test_threads_are_said_by_a_positive_whole_number_or_a_list_of_them(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert not says_threads("OMP_NUM_THREADS")
    for value in ("4", "04", "+4", " 4 ", "4,2", "4 , 2"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert says_threads("OMP_NUM_THREADS"), value
    for value in ("", " ", "0", "-4", "4.5", "4x", "many", "0,4", "4,0", "4,", "4,x", "²", "9" * 20):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert not says_threads("OMP_NUM_THREADS"), value


@pytest.mark.parametrize(("value", "said"), [("1,2", True), ("many", False)])
def test_torch_takes_what_is_said_and_ignores_the_rest(value, said, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    counting = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    own = subprocess.run(counting, capture_output=True, text=True, check=True).stdout
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert says_threads("OMP_NUM_THREADS") == said
    assert subprocess.run(counting, capture_output=True, text=True, check=True).stdout == ("1\n" if said else own)
