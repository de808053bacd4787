"""The queue with real processes, at tiny size on a CPU."""

import json
import time

import pytest
from pyarrow import parquet

from benchmark_files import load_benchmark
from selfkd.runs.run_folder import RunFolder
from selfkd.training.checkpoint_files import epochs_done

FIRST, SECOND = "dtskd/cifar100/vgg11/dtskd", "loth/cifar100/vgg16/plain"
MISSING = "dtskd/cifar100/vgg11/nothing"
EPOCHS = 60  # some seconds: enough to be interrupted before the end


@pytest.fixture
def queue_file(tmp_path):
    file = tmp_path / "queue.yaml"
    file.write_text(f"- title: all\n  seeds: [1]\n  recipes: [{FIRST}, {MISSING}, {SECOND}]\n")
    return file


@pytest.fixture
def call(tmp_path, queue_file, digits_as_cifar100, monkeypatch):
    """The command, in this process; its trainings have their own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    benchmark = load_benchmark("gpu/run_queue")
    monkeypatch.setattr("signal.signal", lambda *_: None)  # SIGTERM stays this process's own
    paths = {"data": digits_as_cifar100, "runs": tmp_path / "runs", "queue": queue_file, "results": tmp_path / "gpu"}

    def call(out, *more, clock=time.monotonic):
        arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
        arguments += ["--minutes", "5", "--probe", "0", "--tiny", "--out", str(tmp_path / out), *more]
        return benchmark.main(arguments, clock)

    return call


def without_times(record):
    """What two trainings of the same must agree on, bit for bit."""
    epochs = [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in record["epochs"]]
    scores = {key: value for key, value in record["scores"].items() if key != "seconds"}
    return {"experiment": record["experiment"], "scores": scores, "epochs": epochs, "data": record["data"]}


@pytest.mark.slow
def test_an_interrupted_training_continues_and_equals_an_unbroken_one(
    call, tmp_path, digits_as_cifar100, monkeypatch, capsys
):
    items, records = load_benchmark("gpu/queue_items"), load_benchmark("gpu/run_records")
    monkeypatch.setitem(items.TINY, "trainer.epochs", EPOCHS)
    log = tmp_path / "runs" / "tiny" / FIRST / "seed-1" / "metrics.csv"

    def clock():  # time is up after the second epoch
        return 1e9 if log.exists() and len(log.read_text().splitlines()) > 2 else 0.0

    assert call("out-1", clock=clock) == 0
    said = capsys.readouterr().out
    assert f"skipped: {MISSING}" in said
    assert f"unfinished: {FIRST} seed 1 after epoch" in said
    assert f"started: {SECOND}" not in said
    assert not (tmp_path / "out-1" / "queue.json").exists()
    assert 2 <= len(log.read_text().splitlines()) - 1 < EPOCHS
    done = epochs_done(log.parent / "checkpoints")
    assert done % items.TINY["trainer.checkpoint_every"] == 0
    assert f"unfinished: {FIRST} seed 1 after epoch {done}\n" in said

    assert call("out-2", "--parallel", "2") == 0
    assert f"started: {FIRST} seed 1 after epoch {done};" in capsys.readouterr().out
    bundle = json.loads((tmp_path / "out-2" / "queue.json").read_text())
    first, second = sorted(bundle["runs"], key=lambda record: record["scores"]["recipe"])
    assert first["scores"]["recipe"] == f"tiny/{FIRST}"
    assert second["scores"]["recipe"] == f"tiny/{SECOND}"
    assert first["usage"] == {"starts": 2, "peak_memory_mb": None}
    assert first["environment"]["device"] == "cpu"
    assert {"train/loss", "test/top1/main", "test/top1/branch3"} <= set(first["epochs"][0])
    assert str(digits_as_cifar100) not in json.dumps(bundle)

    item, elsewhere = items.Item(FIRST, 1), tmp_path / "unbroken"
    place = items.Place(str(digits_as_cifar100), tiny=True)
    recipe = items.recipe_of(item, place)
    folder = RunFolder.of(recipe, elsewhere)
    # In a process like the queue's: the number of threads decides how sums are rounded.
    assert load_benchmark("gpu/scheduler").start_process(item, folder, elsewhere, place).wait() == 0
    assert without_times(records.finished_record(folder, recipe, None)) == without_times(first)
    assert records.faults_of(first, recipe) == []

    assert call("out-2") == 0
    assert json.loads((tmp_path / "out-2" / "queue.json").read_text()) == bundle, "brought back once"


def test_nothing_is_trained_on_a_part_of_the_data(queue_file, digits_as_cifar100, tmp_path, capsys, monkeypatch):
    benchmark = load_benchmark("gpu/run_queue")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    paths = {"data": digits_as_cifar100, "runs": tmp_path / "runs", "queue": queue_file, "out": tmp_path / "out"}
    arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    assert benchmark.main([*arguments, "--minutes", "5"]) == 2
    assert "images of the train split, CIFAR-100 has 50000" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_whole_data_set_lacks_nothing(digits_as_cifar100, tmp_path, monkeypatch):
    benchmark = load_benchmark("gpu/run_queue")
    rows = {}
    for split in ("train", "test"):
        files = digits_as_cifar100.rglob(f"{split}-*.parquet")
        rows[split] = sum(parquet.read_metadata(file).num_rows for file in files)
    monkeypatch.setattr(benchmark, "WHOLE", rows)
    assert benchmark.what_is_lacking(digits_as_cifar100) is None
    assert benchmark.what_is_lacking(tmp_path) is None, "other files have checks of their own"
