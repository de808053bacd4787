"""Real trainings, killed with SIGKILL at random times and continued by the same command."""

import random
import signal

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
