"""How many threads compute. What the machine is busy with while the tests run changes none of it."""

import json
import logging

import pytest
import torch

import selfkd
from selfkd.errors import OptionError
from selfkd.recipes.reader import resolve
from selfkd.runs import evaluate as evaluation
from selfkd.runs.evaluate import evaluate
from selfkd.runs.train import run
from selfkd.training import threads
from selfkd.training.module import MethodModule
from selfkd.training.options import TrainerOptions
from selfkd.training.threads import choose_threads, threads_restored, worthwhile_threads


@pytest.fixture
def unsaid(monkeypatch):
    """A user who has said nothing."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def torch_takes(unsaid, monkeypatch):
    """`torch_takes(number)`, at first 8, on a machine of eight cores."""

    def take(number):
        monkeypatch.setattr(torch, "get_num_threads", lambda: number)

    take(8)
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    return take


@pytest.fixture
def two_threads(unsaid, monkeypatch):
    """Two, as torch would take them on a machine of two cores."""
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    with threads_restored():
        torch.set_num_threads(2)
        yield


def recipe(**options):
    """A tiny network on ten small images of each class, one epoch."""
    return resolve("demo/digits/resnet18/plain", {"backbone.width": 8, "trainer.epochs": 1, **options})


def noted(folder):
    """What a run says of its threads."""
    return json.loads(folder.environment_file.read_text())["threads"]


@pytest.fixture(scope="module")
def small():
    """The embedded default's network, on its images."""
    return selfkd.create_backbone("resnet18_cifar", 10, width=16).network, (3, 16, 16)


@pytest.fixture(scope="module")
def large():
    """The papers' ResNet-18 for CIFAR-100: 0.56 billion multiply-adds for an image."""
    return selfkd.create_backbone("resnet18_cifar", 100).network, (3, 32, 32)


@pytest.mark.parametrize(
    ("billions", "cores", "expected"),
    [(0, 8, 1), (0.18, 2, 1), (2, 64, 1), (3.9, 64, 1), (4, 64, 2), (4, 1, 1), (36, 2, 2), (36, 64, 18), (300, 64, 64)],
)
def test_one_thread_for_every_2_billion_multiply_adds(billions, cores, expected):
    assert worthwhile_threads(int(billions * 1e9), cores) == expected


def test_network_images_and_cores_decide(torch_takes, small, large, monkeypatch):
    assert choose_threads(*small, 20).number == 1
    assert choose_threads(*small, 512).number == 2
    assert choose_threads(*large, 4).number == 1
    assert choose_threads(*large, 16).number == 4
    assert choose_threads(*large, 128).number == 8
    assert "for 2.2 billion multiply-adds in a batch" in choose_threads(*large, 4).reason
    assert "for 71 billion multiply-adds in a batch" in choose_threads(*large, 128).reason
    assert "for 0.0088 billion multiply-adds in a batch" in choose_threads(*small, 1).reason
    torch_takes(4)  # physical cores, where a core has two threads
    assert choose_threads(*large, 128).number == 4
    monkeypatch.setattr(threads, "available_cores", lambda: 2)  # a container's quota
    assert choose_threads(*large, 128).number == 2


def test_the_option_goes_before_what_was_before_then_come_variables_and_then_the_rule(torch_takes, large, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch_takes(3)  # as torch does, when it is loaded
    assert choose_threads(*large, 128) == threads.ThreadChoice(3, "as OMP_NUM_THREADS says")
    assert choose_threads(*large, 128, kept=2).number == 2
    assert choose_threads(*large, 128, asked=5).number == 5
    assert choose_threads(*large, 128, asked=5, kept=5).reason == "as trainer.threads says"
    choice = choose_threads(*large, 128, asked=5, kept=2)
    assert choice.number == 5
    assert "before it was 2, so the last digits of the results change" in choice.reason


def test_a_variable_that_says_no_number_leaves_the_rule(torch_takes, large, monkeypatch):
    for value in ("0", "-2", "many", "4,0"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        choice = choose_threads(*large, 16)
        assert choice.number == 4
        assert choice.reason.startswith("for 8.9 billion multiply-adds")
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    torch_takes(3)
    assert choose_threads(*large, 16) == threads.ThreadChoice(3, "as OMP_NUM_THREADS says")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert choose_threads(*large, 16).reason == "as MKL_NUM_THREADS says", "which torch obeys before the other"


def test_more_threads_than_cores_are_warned_of(torch_takes, large, monkeypatch, caplog):
    slow = "more than the 8 cores that this process may use, so they are slow"
    assert choose_threads(*large, 128, kept=9).number == 9
    advice = "set trainer.threads=8, which changes the last digits of the results"
    assert caplog.messages == [f"9 threads are {slow}; {advice}"]
    caplog.clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    torch_takes(9)
    choose_threads(*large, 128)
    assert caplog.messages == [f"9 threads are {slow}; set trainer.threads=8"]
    caplog.clear()
    choose_threads(*large, 128, asked=9, kept=9)
    assert caplog.messages == [f"9 threads (trainer.threads) are {slow}"]
    caplog.clear()
    choose_threads(*large, 128, kept=8)
    assert not caplog.text


def test_numbers_that_cannot_be_are_refused():
    for wrong in (0, -1, 1025, 10**30, 1.5, True):
        with pytest.raises(OptionError, match="trainer.threads="):
            TrainerOptions(threads=wrong)


def test_a_run_takes_its_number_notes_it_and_puts_torchs_back(two_threads, tmp_path, caplog):
    caplog.set_level(logging.INFO, "selfkd")
    asked = recipe(**{"trainer.threads": 2})
    assert asked.name == recipe().name, "no part of the experiment"
    folder = run(asked, tmp_path, show_progress=False)
    assert noted(folder) == 2
    assert "CPU threads: 2 (as trainer.threads says)" in caplog.text

    folder.scores_file.unlink()  # then the same command finishes it
    run(recipe(), tmp_path, show_progress=False)
    assert noted(folder) == 2, "a continued run keeps its number"
    assert "CPU threads: 2 (as before" in caplog.text

    folder.scores_file.unlink()
    run(recipe(**{"trainer.threads": 1}), tmp_path, show_progress=False)
    assert noted(folder) == 1
    assert "before it was 2, so the last digits of the results change" in caplog.text
    assert torch.get_num_threads() == 2


def test_a_small_network_is_trained_and_evaluated_by_one_thread(two_threads, tmp_path, monkeypatch):
    folder = run(recipe(), tmp_path, show_progress=False)
    assert noted(folder) == 1
    seen, measure = [], evaluation.measure_split

    def noting(*given):
        seen.append(torch.get_num_threads())
        return measure(*given)

    monkeypatch.setattr(evaluation, "measure_split", noting)
    evaluate(folder.path, overrides={"loader.evaluation_batch_size": "100"})
    evaluate(folder.path, overrides={"trainer.threads": "2"})
    assert seen == [1, 2]
    assert torch.get_num_threads() == 2


def test_a_checkpoint_without_a_number_is_continued_as_a_new_run_begins(two_threads, tmp_path, monkeypatch):
    save = MethodModule.on_save_checkpoint

    def noting(module, checkpoint):
        save(module, checkpoint)
        checkpoint["selfkd_threads"] = None

    with monkeypatch.context() as patched:
        patched.setattr(MethodModule, "on_save_checkpoint", noting)
        folder = run(recipe(**{"trainer.threads": 2}), tmp_path, show_progress=False)
    folder.scores_file.unlink()
    run(recipe(), tmp_path, show_progress=False)
    assert noted(folder) == 1
