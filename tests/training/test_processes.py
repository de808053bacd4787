"""Several processes: real ones, connected by gloo."""

import functools
import json

import distributed_work
import pytest
import torch
from distributed_work import in_two_processes

import seats
import selfkd
from selfkd.cores import available_cores
from selfkd.errors import CheckpointError, OptionError, UserError
from selfkd.methods import METHODS
from selfkd.recipes.reader import resolve
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_content import MEMORIES_KEY, read_checkpoint
from selfkd.training.checkpoint_files import newest_checkpoint
from selfkd.training.epoch_log import read_epoch_log
from selfkd.training.options import TrainerOptions
from selfkd.training.processes import World, is_main_process, launch_variables

# Trained first by as many processes as its student.
TEACHER = {
    "teacher": "recipe",
    "teacher.recipe": "demo/digits/resnet18/plain",
    "teacher.method": "frozen_norm:plain",
    "teacher.name": "teacher",
}
# The feature losses of BYOT and ECSD are a sum and a norm over the batch of one process, not means; TESKD's sum has too
# small a weight to matter here (docs/many-processes.md). BYOT at width 8 agrees to 1e-15 in float64, but in float32
# rounding takes a value across a ReLU's corner, which changes a momentum by 0.002; at width 4 float32 agrees, too.
COMPARABLE = {
    "byot": {"method.feature_weight": 0.0, "backbone.width": 4},
    "ecsd": {"method.feature_weight": 0.0},
}
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"} | {
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
SLURM = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0"} | {
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "train",
}


def flattened(state, name=""):
    """Every tensor of a nested state by its path."""
    if isinstance(state, torch.Tensor):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {key: tensor for part, value in items for key, tensor in flattened(value, f"{name}.{part}").items()}


def train_together(methods, folder):
    """Train several methods by one process ("alone") and by two ("two")."""
    files = []
    for method in methods:
        overrides = {
            "name": method,
            "method": f"frozen_norm:{method}",
            "backbone.width": 8,
            "trainer.epochs": 2,
            "data.classes": 9,
            "data.train_per_class": 5,
            "loader.batch_size": 10,  # of 45 samples: the last batch of 5 is 3 for the first, 2 for the second process
            "optimizer.lr": 0.01,
            **(TEACHER if METHODS.load(method).needs.teacher else {}),
            **COMPARABLE.get(method, {}),
        }
        files.append(folder / f"{method}.yaml")
        files[-1].write_text(resolve("demo/digits/resnet18/plain", overrides).to_yaml())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    distributed_work.train(files, folder / "alone")
    torch.set_num_threads(threads)
    in_two_processes(distributed_work.train, files, folder / "two")


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """`run_of(who, method)`: a run. The representatives are trained together, and so are all other methods."""

    @functools.cache
    def folder(representatives):
        trained = tmp_path_factory.mktemp("together")
        train_together([each for each in METHODS if (each in seats.REPRESENTATIVES) is representatives], trained)
        return trained

    return lambda who, method: RunFolder(folder(method in seats.REPRESENTATIVES) / who / method / "seed-0")


@pytest.mark.parametrize("method", seats.EVERY_METHOD)
def test_two_processes_follow_one(run_of, method):
    """Weights, momentum and history after two epochs agree to rounding, so every gradient did."""
    alone, two = (run_of(who, method) for who in ("alone", "two"))
    states = [read_checkpoint(newest_checkpoint(folder.checkpoints)) for folder in (alone, two)]
    expected, actual = (flattened(state) for state in states)
    assert set(expected) == set(actual)
    assert any("momentum" in key for key in expected)
    backbone = selfkd.create_backbone("resnet18_cifar", 9, width=8, input_size=16)
    remembers = bool(seats.create_method(method, backbone, selfkd.DatasetInfo(45, 9)).memories)
    assert any(MEMORIES_KEY in key for key in expected) == remembers
    for key, tensor in expected.items():
        difference = float((actual[key].float() - tensor.float()).abs().max())
        assert difference <= 1e-4 * max(float(tensor.float().abs().max()), 1.0), key


@pytest.mark.parametrize("method", seats.EVERY_METHOD)
def test_the_log_and_the_scores_are_of_all_processes(run_of, method):
    alone, two = (run_of(who, method) for who in ("alone", "two"))
    for mine, theirs in zip(read_epoch_log(two.metrics_file), read_epoch_log(alone.metrics_file), strict=True):
        assert set(mine) == set(theirs)
        assert mine["train/loss"] == pytest.approx(theirs["train/loss"], rel=0.05)  # mean over processes' steps
        assert mine["train/accuracy"] == pytest.approx(theirs["train/accuracy"], abs=2.3)  # one sample of 45
    scores, expected = two.scores()["last"]["scores"], alone.scores()["last"]["scores"]
    for split, heads in expected.items():
        for head, metrics in heads.items():
            for metric, score in metrics.items():
                assert scores[split][head][metric]["n"] == score["n"]
                assert scores[split][head][metric]["value"] == pytest.approx(score["value"], abs=100 * 3 / score["n"])
    environments = [(folder.environment_file).read_text() for folder in (alone, two)]
    assert '"processes": 1' in environments[0]
    assert '"processes": 2' in environments[1]


def test_more_steps_exchange_nothing_more(tmp_path):
    files = []
    for batch_size in (50, 10):
        options = {
            "name": f"by-{batch_size}",
            "backbone.width": 8,
            "trainer.epochs": 2,
            "data.train_per_class": 20,  # of 200 samples: 4 steps, or 20
            "loader.batch_size": batch_size,
        }
        files.append(tmp_path / f"{batch_size}.yaml")
        files[-1].write_text(resolve("demo/digits/resnet18/dtskd", options).to_yaml())
    in_two_processes(distributed_work.count_collectives, files, tmp_path)
    few, many = json.loads((tmp_path / "counts.json").read_text())
    assert few == many > 0


def test_an_evaluation_of_fewer_images_than_processes(tmp_path):
    in_two_processes(distributed_work.evaluate_three_images)


def test_predictions_of_several_processes_are_collected_in_order(tmp_path):
    in_two_processes(distributed_work.collect_in_order)


def test_the_guard_counts_the_steps_of_its_own_process():
    in_two_processes(distributed_work.count_steps)


@pytest.mark.parametrize(("said", "threads"), [("3", "3"), ("0", str(max(1, available_cores() // 2)))])
def test_the_variables_of_two_processes_are_those_of_torchrun_and_divide_the_cores(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)  # 0 says no number
    first, second = launch_variables(2)
    assert {name: value for name, value in first.items() if second[name] != value} == {"RANK": "0", "LOCAL_RANK": "0"}
    assert (second["RANK"], second["LOCAL_RANK"], second["OMP_NUM_THREADS"]) == ("1", "1", threads)
    for name, value in second.items():
        monkeypatch.setenv(name, value)
    world = World.of(TrainerOptions())
    assert (world.size, world.launched, is_main_process()) == (2, True, False)
    assert world.environment.main_address == "127.0.0.1"
    assert world.environment.main_port == int(first["MASTER_PORT"])


@pytest.fixture
def told(monkeypatch):
    """`told(**variables)`: as a launcher would start this process."""

    def tell(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return tell


def test_a_launcher_says_how_many_there_are(told):
    told(TORCHRUN)
    world = World.of(TrainerOptions())
    assert (world.devices, world.num_nodes, world.size, world.launched) == (2, 2, 4, True)
    assert World.of(TrainerOptions(devices=2, num_nodes=2)).size == 4
    assert not is_main_process()
    with pytest.raises(OptionError, match="trainer.devices=3 .* torchrun uses 2 processes on each machine; leave"):
        World.of(TrainerOptions(devices=3))
    with pytest.raises(OptionError, match="trainer.num_nodes=3 .* torchrun uses 2 machines; leave"):
        World.of(TrainerOptions(num_nodes=3))


def test_slurm_says_how_many_there_are_and_never_requeues_mid_epoch(told):
    told(SLURM)
    world = World.of(TrainerOptions())
    assert (world.devices, world.num_nodes, world.launched) == (2, 2, True)
    assert world.environment.auto_requeue is False
    assert is_main_process()


def test_a_batch_script_may_start_its_own_processes(told, monkeypatch):
    for variables in ({**SLURM, "SLURM_NTASKS": "1"}, SLURM):
        told(variables)
        monkeypatch.delenv("SLURM_STEP_ID")
        world = World.of(TrainerOptions(devices=2))
        assert (world.size, world.launched) == (2, False)


def test_srun_without_tasks_per_node_is_refused_in_words(told, monkeypatch):
    told(SLURM)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(UserError, match="--ntasks-per-node"):
        World.of(TrainerOptions())


def test_a_batch_that_cannot_be_shared_out_is_refused_before_anything_is_written(tmp_path):
    recipe = resolve("demo/digits/resnet18/plain", {"loader.batch_size": 15, "trainer.devices": 2})
    with pytest.raises(OptionError, match="loader.batch_size=15 is not allowed; .* multiple of the 2 processes"):
        run(recipe, tmp_path, show_progress=False)
    assert not [*tmp_path.rglob("*")]


def test_more_processes_that_would_leave_out_a_batch_do_not_continue(tmp_path):
    options = {"data.classes": 9, "data.train_per_class": 5, "loader.batch_size": 42}  # of 45: a last batch of 3
    options |= {"backbone.width": 8, "trainer.epochs": 2}
    recipe = resolve("demo/digits/resnet18/plain", options)
    folder = run(recipe, tmp_path, show_progress=False)
    folder.scores_file.unlink()
    with pytest.raises(CheckpointError, match="1 processes trained .*, with 2 steps per epoch; 2 would need 1"):
        run(resolve("demo/digits/resnet18/plain", {**options, "trainer.devices": 2}), tmp_path, show_progress=False)


def test_several_machines_need_a_launcher():
    with pytest.raises(OptionError, match=r"trainer.num_nodes=2 .*torchrun or srun"):
        World.of(TrainerOptions(num_nodes=2))


def test_without_a_gpu_batch_norm_cannot_be_synchronised(tmp_path):
    recipe = resolve("demo/digits/resnet18/plain", {"trainer.sync_batchnorm": True, "trainer.accelerator": "cpu"})
    with pytest.raises(OptionError, match=r"trainer.sync_batchnorm=True .* on GPUs only; set trainer"):
        run(recipe, tmp_path, show_progress=False)
