import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from short_runs import trained

from image_sets import write_folder
from real_runs import differences, finish, outcome, start, trainers
from selfkd.errors import OptionError, RecipeError, RunInterruptedError, UserError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.several import resolve_several
from selfkd.recipes.teacher_recipes import teachers_first
from selfkd.runs import several
from selfkd.runs.epoch_counts import logged_epochs
from selfkd.runs.listing import list_runs
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.several import train_several
from selfkd.signals import StopSignal

PLAIN = "demo/digits/resnet18/plain"
TINY = {"backbone.width": "4", "trainer.epochs": "1", "data.train_per_class": "2", "trainer.evaluate_every": "1"}


class SimulatedProcess:
    """Stands for a process that trains a run: it ends after some looks at it, and writes down what happens.

    Attributes:
        events: what happened to all processes, in order.
        looks: how often it is looked at before it ends, by the method's name; at once if it is not given.
        messages: its error, by the method's name.
        alive: number of processes that run now.
        keeping: the processes that keep the predictions of their run.
    """

    events: list
    looks: dict
    messages: dict
    alive: int
    keeping: list

    def __init__(self, training, folder, variables):
        recipe = training.recipe
        self.name = f"{recipe.parts['method']}-{recipe.seed}"
        self.method = recipe.parts["method"]
        self.left = self.looks.get(self.method, 0)
        self.error = self.messages.get(self.method)
        if training.keep_logits:
            self.keeping.append(self.name)
        self.is_alive = True
        type(self).alive += 1
        self.events.append(f"{self.name} starts, {self.alive} at work")

    @property
    def has_ended(self):
        self.left -= 1
        if self.left < 0 and self.is_alive:
            self.end("ends")
        return not self.is_alive

    def end(self, how):
        self.is_alive = False
        type(self).alive -= 1
        self.events.append(f"{self.name} {how}")

    def stop(self, number):
        self.error = "stopped after epoch 3 of 4; the same command continues"

    def close(self, seconds=0):
        if self.is_alive:
            self.end("is stopped" if seconds else "is killed")


@pytest.fixture
def simulated(monkeypatch):
    """Simulated processes instead of real ones."""
    kind = type(
        "Simulated", (SimulatedProcess,), {"events": [], "looks": {}, "messages": {}, "alive": 0, "keeping": []}
    )
    monkeypatch.setattr(several, "TrainingProcess", kind)
    monkeypatch.setattr(several, "_PAUSE_SECONDS", 0.001)
    return kind


@pytest.fixture
def recipes():
    """`recipes("plain,ps_kd", seeds)`: tiny recipes."""

    def make(methods="plain", seeds=(0,), **options):
        return resolve_several([PLAIN], {**TINY, "method": methods, **options}, seeds)

    return make


def errors(outcomes):
    return [outcome.error for outcome in outcomes]


def test_runs_are_trained_one_after_the_other_in_their_order(recipes, simulated, tmp_path):
    given = recipes("plain,ps_kd", (1, 0))
    outcomes = train_several(given, tmp_path, show_progress=False)
    assert [outcome.recipe for outcome in outcomes] == given
    assert [outcome.folder for outcome in outcomes] == [RunFolder.of(recipe, tmp_path) for recipe in given]
    assert errors(outcomes) == [None] * 4
    names = ("plain-1", "plain-0", "ps_kd-1", "ps_kd-0")
    assert simulated.events == [event for name in names for event in (f"{name} starts, 1 at work", f"{name} ends")]


def test_so_many_are_trained_beside_each_other(recipes, simulated, tmp_path):
    simulated.looks = {"plain": 8}
    train_several(recipes("plain,ps_kd", (0, 1)), tmp_path, jobs=3, show_progress=False)
    begins = [event for event in simulated.events if "starts" in event]
    assert begins[:3] == ["plain-0 starts, 1 at work", "plain-1 starts, 2 at work", "ps_kd-0 starts, 3 at work"]
    assert begins[3] == "ps_kd-1 starts, 3 at work", "its place is free when ps_kd-0 ends, before plain ends"


def test_a_run_that_fails_does_not_end_the_others(recipes, simulated, tmp_path, caplog):
    simulated.messages = {"ps_kd": "the disk is full"}
    outcomes = train_several(recipes("plain,ps_kd,dtskd"), tmp_path, show_progress=False)
    assert errors(outcomes) == [None, "the disk is full", None]
    assert "seed 0 is not finished: the disk is full" in caplog.text


def test_a_process_that_cannot_be_started_is_named(recipes, simulated, tmp_path, monkeypatch):
    def refuse(training, *rest):
        if training.recipe.parts["method"] == "plain":
            raise OSError(12, "Cannot allocate memory")
        return simulated(training, *rest)

    monkeypatch.setattr(several, "TrainingProcess", refuse)
    outcomes = train_several(recipes("plain,ps_kd"), tmp_path, show_progress=False)
    assert errors(outcomes) == [
        "its process cannot be started: [Errno 12] Cannot allocate memory; the same command continues",
        None,
    ]


def test_a_recipe_that_is_given_twice_is_trained_once(recipes, simulated, tmp_path):
    given = recipes() * 2
    assert errors(train_several(given, tmp_path, show_progress=False)) == [None, None]
    assert len(simulated.events) == 2


KD = {"teacher": "recipe", "teacher.recipe": PLAIN, "teacher.method": "label_smoothing"}


def test_a_teacher_is_trained_once_and_before_its_students(recipes, simulated, tmp_path):
    simulated.looks = {"label_smoothing": 5}
    students = recipes("kd", **KD) + recipes("kd", **KD, **{"method.temperature": "2"}) + recipes("dtskd")
    outcomes = train_several(students, tmp_path, jobs=2, show_progress=False)
    assert [outcome.recipe for outcome in outcomes] == students
    assert errors(outcomes) == [None] * 3
    started = [event.partition(" ")[0] for event in simulated.events if "starts" in event]
    assert started == ["label_smoothing-0", "dtskd-0", "kd-0", "kd-0"]


def test_the_runs_that_were_asked_for_keep_their_predictions_and_no_teacher_does(recipes, simulated, tmp_path):
    student = recipes("kd", **KD)
    train_several(student, tmp_path, show_progress=False, keep_logits=True)
    assert simulated.keeping == ["kd-0"]
    train_several(recipes("plain"), tmp_path, show_progress=False)
    assert simulated.keeping == ["kd-0"]


def test_without_its_teacher_a_student_is_not_trained(recipes, simulated, tmp_path):
    simulated.messages = {"label_smoothing": "the disk is full"}
    (student,) = train_several(recipes("kd", **KD), tmp_path, show_progress=False)
    assert student.error is not None
    assert student.error.startswith("its teacher ")
    assert "+method=label_smoothing+" in student.error
    assert student.error.endswith(" seed 0 is not finished: the disk is full")
    assert len(simulated.events) == 2


def test_a_finished_student_needs_no_teacher_and_a_finished_teacher_no_other(recipes, simulated, tmp_path):
    chain = {**KD, "teacher.method": "kd", "teacher.teacher": "recipe", "teacher.teacher.recipe": PLAIN}
    (student,) = recipes("kd", **chain)
    first, second = (RunFolder.of(recipe, tmp_path / "runs") for recipe in teachers_first(student))
    trained(student, tmp_path)
    shutil.rmtree(first.path)
    assert errors(train_several([student], tmp_path / "runs", show_progress=False)) == [None]
    assert simulated.events == []
    RunFolder.of(student, tmp_path / "runs").scores_file.unlink()
    assert errors(train_several([student], tmp_path / "runs", show_progress=False)) == [None]
    assert simulated.events == ["kd-0 starts, 1 at work", "kd-0 ends"]
    assert second.is_finished


def test_students_that_cannot_be_trained_are_refused_before_their_teachers_are_trained(recipes, simulated, tmp_path):
    bad = {
        "data": "folder",
        "data.image_size": "16",
        "data.root": str(tmp_path / "nowhere"),
        "data.train_per_class": "2",
    }
    chain = {**KD, "teacher.method": "kd", "teacher.teacher": "recipe", "teacher.teacher.recipe": PLAIN}
    students = recipes("kd", (0, 1), **KD) + recipes("kd", (0, 1), **{**chain, **bad})
    outcomes = train_several(students, tmp_path, show_progress=False)
    assert errors(outcomes)[:2] == [None, None]
    assert all("nowhere' is not a folder" in str(error) for error in errors(outcomes)[2:])
    started = [event.partition(" ")[0] for event in simulated.events if "starts" in event]
    assert started == ["label_smoothing-0", "kd-0", "label_smoothing-1", "kd-1"]


def test_a_mistake_is_found_in_each_recipe_before_any_is_trained(recipes, simulated, tmp_path, caplog):
    given = recipes(seeds=(0, 1), **{"data.classes": "[0,77]"}) + recipes("ps_kd", (0, 1))
    outcomes = train_several(given, tmp_path, show_progress=False)
    assert errors(outcomes)[2:] == [None, None]
    assert errors(outcomes)[0] == errors(outcomes)[1]
    assert "data.classes=" in str(errors(outcomes)[0])
    assert [event for event in simulated.events if "ends" in event] == ["ps_kd-0 ends", "ps_kd-1 ends"]


def test_where_no_recipe_can_be_trained_the_mistake_is_an_error_of_the_whole(recipes, simulated, tmp_path):
    wrong = {"data": "folder", "data.image_size": "16", "data.root": str(tmp_path / "nowhere")}
    with pytest.raises(UserError, match="nowhere' is not a folder"):
        train_several(recipes("plain,ps_kd", (0, 1), **wrong), tmp_path, show_progress=False)
    assert simulated.events == []


def test_a_warning_of_the_data_doctor_comes_once(recipes, simulated, tmp_path, caplog):
    write_folder(tmp_path / "train", 3, digits=(0, 1))
    write_folder(tmp_path / "train", 1, digits=(2,))
    write_folder(tmp_path / "test", 1, digits=(0, 1, 2), start=5)
    images = {"data": "folder", "data.image_size": "16", "data.root": str(tmp_path), "data.train_per_class": "null"}
    train_several(recipes("plain,ps_kd", (0, 1), **images), tmp_path / "runs", show_progress=False)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings
    assert len(warnings) == len(set(warnings))


def test_when_the_time_is_up_the_runs_are_stopped_and_can_be_continued(recipes, simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(
        several, "time", SimpleNamespace(monotonic=itertools.count().__next__, sleep=lambda seconds: None)
    )
    simulated.looks = {"ps_kd": 10**9}
    outcomes = train_several(recipes("plain,ps_kd,dtskd"), tmp_path, show_progress=False, seconds=30)
    assert errors(outcomes) == [
        None,
        "the time is up: stopped after epoch 3 of 4; the same command continues",
        "the time is up: it was not begun; the same command continues",
    ]
    assert simulated.events[-1] == "ps_kd-0 is stopped"


def test_a_signal_stops_all_processes(recipes, simulated, tmp_path, monkeypatch):
    simulated.looks = {"ps_kd": 10**9, "dtskd": 10**9}
    pauses = itertools.count()

    def pause(seconds):
        if next(pauses) == 20:
            raise StopSignal(signal.SIGTERM)

    monkeypatch.setattr(several, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    with pytest.raises(RunInterruptedError, match="stopped; 1 of 4 runs are finished; the same command") as caught:
        train_several(recipes("plain,ps_kd,dtskd,teskd"), tmp_path, jobs=2, show_progress=False)
    assert caught.value.exit_status == 143
    assert simulated.events[-2:] == ["ps_kd-0 is stopped", "dtskd-0 is stopped"]


def test_an_error_leaves_no_process_behind(recipes, simulated, tmp_path, monkeypatch):
    simulated.looks = {"plain": 10**9}
    monkeypatch.setattr(several, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        train_several(recipes(), tmp_path, show_progress=False)
    assert simulated.events[-1] == "plain-0 is killed"


def test_finished_runs_are_kept_and_bad_ones_are_named(recipes, simulated, tmp_path):
    given = recipes("plain,ps_kd,dtskd")
    folders = [trained(recipe, tmp_path) for recipe in given]
    folders[1].scores_file.write_text("{")
    text = folders[2].recipe_file.read_text()
    folders[2].recipe_file.write_text(text.replace("optimizer.lr: 0.05", "optimizer.lr: 0.5"))
    kept, broken, other = train_several(given, tmp_path / "runs", show_progress=False)
    assert simulated.events == [], "no process is needed for that"
    assert kept.error is None
    assert "scores.json cannot be read" in str(broken.error)
    assert "holds another experiment (optimizer.lr: 0.5 there, 0.05 now)" in str(other.error)
    outcomes = train_several(given, tmp_path / "runs", show_progress=False, overwrite=True)
    assert errors(outcomes) == [None] * 3
    assert [event for event in simulated.events if "starts" in event] == [
        f"{method}-0 starts, 1 at work" for method in ("plain", "ps_kd", "dtskd")
    ]


def test_what_cannot_be_trained_is_refused_before_a_process_starts(recipes, simulated, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="jobs=0 is not allowed"):
        train_several(recipes(), tmp_path, jobs=0)
    with pytest.raises(OptionError, match="seconds=0 is not allowed"):
        train_several(recipes(), tmp_path, seconds=0)
    with pytest.raises(RecipeError, match="would share the run folder mine/seed-0"):
        train_several(recipes(name="mine") + recipes("dtskd", name="mine"), tmp_path)
    with pytest.raises(UserError, match="it must be a path that is short enough"):
        train_several(recipes(), tmp_path / ("x" * 300))
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="torchrun starts the processes of one run, but here are 2; start one"):
        train_several(recipes(seeds=(0, 1)), tmp_path)
    assert simulated.events == []


def test_no_recipes_have_no_outcomes(simulated, tmp_path):
    assert train_several([], tmp_path) == []


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Runs of three methods with two seeds, trained without an interruption."""
    folder = tmp_path_factory.mktemp("unbroken")
    for recipe in resolve_several([PLAIN], split_overrides(OVERRIDES), None):
        trained(recipe, folder, keep_logits=True)
    return folder / "runs"


OVERRIDES = (
    *("seed=0,1", "method=plain,ps_kd,dtskd", "backbone.width=4"),
    *("trainer.epochs=60", "trainer.evaluate_every=20"),
)


def folders(runs):
    """The runs below a folder of runs, by method and seed."""
    return {run.path.relative_to(runs): RunFolder(run.path) for run in list_runs(runs)}


def wait_for_trainers(process, runs, epochs):
    """Wait until two runs are trained, and so many epochs are logged in all; the processes that train then."""
    deadline = time.monotonic() + 120
    while True:
        found, logged = trainers(process), sum(logged_epochs(run).done for run in folders(runs).values())
        if len(found) == 2 and logged >= epochs:
            return found
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid):
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pids):
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "they outlive the process that started them"
        time.sleep(0.05)


@pytest.mark.slow
def test_runs_killed_in_every_way_and_continued_end_as_if_they_never_were(unbroken, tmp_path):
    def train():
        return start(PLAIN, tmp_path, *OVERRIDES, "--jobs=2")

    process = train()
    pids = wait_for_trainers(process, tmp_path, epochs=10)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    wait_for_end(pids)

    process = train()
    pids = wait_for_trainers(process, tmp_path, epochs=60)
    killed = min(pids)
    os.kill(killed, signal.SIGKILL)
    status, messages = finish(process)
    assert status == 1
    assert "the process that trained it was killed (SIGKILL); the same command continues" in messages
    assert "1 of 6 runs are not finished: " in messages
    states = sorted(run.state for run in list_runs(tmp_path))
    assert states == ["finished"] * 5 + ["unfinished"]

    shutil.rmtree(next(iter(folders(tmp_path).values())).path)  # so that two are left to train
    process = train()
    pids = wait_for_trainers(process, tmp_path, epochs=250)
    process.send_signal(signal.SIGINT)
    status, messages = finish(process)
    assert status == 130
    assert "selfkd: stopped; 4 of 6 runs are finished; the same command continues" in messages
    wait_for_end(pids)

    status, messages = finish(train())
    assert status == 0, messages
    assert list(folders(tmp_path)) == list(folders(unbroken))
    for name, run in folders(tmp_path).items():
        assert differences(outcome(run), outcome(folders(unbroken)[name])) == [], name
    before = {name: run.scores_file.stat().st_mtime_ns for name, run in folders(tmp_path).items()}
    assert finish(train())[0] == 0
    assert {name: run.scores_file.stat().st_mtime_ns for name, run in folders(tmp_path).items()} == before


@pytest.mark.slow
def test_two_commands_never_train_one_run_at_the_same_time(tmp_path):
    command = (PLAIN, tmp_path, "seed=0,1", "backbone.width=4", "trainer.epochs=100000")
    first = start(*command)
    (pid,) = wait_for_one(first, tmp_path)
    second = start(*command, "trainer.checkpoint_every=1", "--jobs=2")
    lines = iter(second.stderr.readline, "")
    assert any("is not finished: another process is training in" in line for line in lines)
    for process in (second, first):
        process.terminate()
        assert finish(process)[0] == 143
    wait_for_end([pid])


def wait_for_one(process, runs):
    """Wait until a run has logged an epoch; the process that trains it."""
    while not any(logged_epochs(run).done for run in folders(runs).values()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return trainers(process)


@pytest.mark.slow
def test_a_script_needs_no_guard_and_gets_the_runs_that_the_time_allows(tmp_path):
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from selfkd.recipes.several import resolve_several\n"
        "from selfkd.runs.several import train_several\n"
        f"options = {TINY!r}\n"
        f"short = resolve_several([{PLAIN!r}], options, [0])\n"
        f"long = resolve_several([{PLAIN!r}], {{**options, 'trainer.epochs': '1000000'}}, [0])\n"
        "train_several(short, Path('runs'))\n"
        "for outcome in train_several(short + long, Path('runs'), seconds=25):\n"
        "    print(outcome.error)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    finished, stopped = done.stdout.splitlines()
    assert finished == "None"
    assert re.fullmatch(r"the time is up: stopped after epoch \d+ of 1000000; the same command continues", stopped)
    assert "1/2 runs" in done.stderr
