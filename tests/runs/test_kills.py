"""Real trainings, killed with SIGKILL at random times and continued by the same command."""

import os
import random
import signal
from contextlib import suppress

import pytest
import torch

from benchmark_files import load_benchmark

killed_runs = load_benchmark("killed_runs")
KILLS = {
    killed_runs.Case("plain", files=True): (False, True),
    killed_runs.Case("dtskd"): (False, True),
    killed_runs.Case("dtskd", files=True): (False, False),
    killed_runs.Case("teskd"): (False, True),
    killed_runs.Case("loth"): (True, False),
    killed_runs.Case("kd"): (False, False, True),
    killed_runs.Case("dml"): (False, True),
}
"""Of each kill, whether it is aimed at a checkpoint being written; else it may come at any time."""


@pytest.fixture(scope="module")
def server():
    with killed_runs.CommandServer() as server:
        assert server.threads == 1, "a fork copies one thread; what another held would stay locked"
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return killed_runs.write_images(tmp_path_factory.mktemp("digits"))


@pytest.mark.parametrize("case", KILLS, ids=lambda case: case.name)
def test_a_run_killed_at_any_time_ends_as_if_it_never_was(server, images, case, tmp_path, monkeypatch):
    monkeypatch.setitem(killed_runs.OPTIONS, "trainer.epochs", 5)
    monkeypatch.setitem(killed_runs.FILES, "loader.workers", 1)
    reference = killed_runs.Reference(server, case, tmp_path, images)
    chains = list(reference.chains(KILLS[case], random.Random(case.name)))  # noqa: S311
    kills = [kill for chain in chains for kill in chain.kills]
    assert [kill.aimed for kill in kills] == list(KILLS[case])
    assert {name for chain in chains for name in chain.different} == set()


def test_a_run_killed_while_it_finishes_ends_as_if_it_never_was(server, images, tmp_path, monkeypatch):
    monkeypatch.setitem(killed_runs.OPTIONS, "trainer.epochs", 2)
    case = killed_runs.Case("dtskd")
    reference = killed_runs.Reference(server, case, tmp_path, images)
    for attempt in range(10):  # finishing takes a moment only, which a busy machine may let pass
        order = case.command(tmp_path / f"broken-{attempt}", images)
        run = tmp_path / f"broken-{attempt}" / case.name / "seed-0"
        command = server.start(order, tmp_path / "log.txt")
        while not (run / "model.safetensors").exists() and not command.ended(0.0002):
            pass  # it is the first that is written after the last epoch
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)  # at once: `kill` would ask first where it is
        if command.wait() == -signal.SIGKILL and not (run / "scores.json").exists():
            break
    else:
        pytest.fail("it finished each time before it could be killed")
    assert killed_runs.epochs_done(run) == 2
    assert server.start(order, tmp_path / "log.txt").wait() == 0
    assert killed_runs.differences(reference.outcome, killed_runs.outcome(run)) == []


def test_a_command_is_killed_by_sigkill_however_young_it_is(server, images, tmp_path):
    for _ in range(3):
        command = server.start(killed_runs.CASES[0].command(tmp_path / "runs", images), tmp_path / "log.txt")
        assert killed_runs.stage_of(command.kill()) == "starting"
        assert command.wait() == -signal.SIGKILL


def test_a_difference_of_a_bit_is_seen():
    zero = {"a": torch.zeros(2), "b": 1.5, "c": b"x"}
    assert killed_runs.differences(zero, {**zero, "a": torch.zeros(2)}) == []
    assert killed_runs.differences(zero, {"a": -torch.zeros(2), "b": 1.5, "d": 0}) == ["a", "c", "d"]
    assert killed_runs.differences({"a": torch.zeros(2)}, {"a": torch.zeros(2).double()}) == ["a"]
