import json

import pytest
from gpu_records import made_up_record

NAME = "loth/cifar100/resnet18/loth"


@pytest.fixture
def collect(benchmark, tmp_path):
    """The command on one file with these records and paces; gives its exit status."""

    def collect(*runs, paces=()):
        file = tmp_path / "queue.json"
        file.write_text(json.dumps({"runs": runs, "paces": paces, "side_by_side": []}))
        return benchmark.main([str(file), "--results", str(tmp_path / "gpu")])

    return collect


def test_records_are_kept_by_recipe_and_seed(collect, records, tmp_path):
    runs = [made_up_record(records, NAME, seed) for seed in (0, 1)]
    assert collect(*runs) == 0
    assert [json.loads((tmp_path / "gpu" / NAME / f"seed-{seed}.json").read_text()) for seed in (0, 1)] == runs
    assert list(records.read_records(tmp_path / "gpu")) == runs
    assert collect(*runs) == 0, "brought back once more, they are what is there"


def spoilt_experiment(record):
    record["experiment"]["optimizer.lr"] = 0.2


def spoilt_epochs(record):
    del record["epochs"][7]


def spoilt_number(record):
    record["epochs"][7]["train/loss"] = float("nan")


def spoilt_score(record):
    record["scores"]["last"]["scores"]["test"]["fusion"]["top1"]["value"] = 99.0


def spoilt_best(record):
    record["scores"]["best"]["scores"]["test"]["main"]["top1"]["value"] = 99.0


def spoilt_choice(record):
    record["scores"]["best"]["epoch"] = 3


def spoilt_rule(record):
    record["scores"]["best"]["epoch"] = 201


def spoilt_half(record):
    record["scores"]["splits"]["train"]["images"] = 25_000


def spoilt_key(record):
    del record["environment"]


def spoilt_name(record):
    record["scores"]["recipe"] = "loth/cifar100/resnet18/nothing"


def spoilt_scores(record):
    record["scores"] = None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoilt_experiment, "optimizer.lr is 0.2"),
        (spoilt_epochs, "199 epochs"),
        (spoilt_number, "not finite"),
        (spoilt_score, "fusion scored 99.0"),
        (spoilt_best, "main scored 99.0 after the best epoch"),
        (spoilt_choice, "main has 70.0 in its best epoch, 71.0 in another"),
        (spoilt_rule, "its best epoch is 201"),
        (spoilt_half, "its train split has 25000 images"),
        (spoilt_key, "keys"),
        (spoilt_name, "nothing"),
        (spoilt_scores, "damaged"),
    ],
)
def test_a_damaged_record_is_refused_and_the_others_are_kept(collect, records, tmp_path, capsys, spoil, reason):
    bad, good = made_up_record(records, NAME), made_up_record(records, NAME, seed=1)
    spoil(bad)
    assert collect(bad, good) == 1
    assert reason in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "gpu").rglob("*.json")] == ["seed-1.json"]


def test_another_run_of_the_same_or_on_other_data_is_refused(collect, records, capsys):
    first, second = made_up_record(records, NAME), made_up_record(records, NAME, last=71.0)
    assert collect(first) == 0
    assert collect(second) == 1
    assert "another run" in capsys.readouterr().out
    other_data = {**made_up_record(records, NAME, seed=1), "data": {"fingerprint": "another"}}
    assert collect(other_data) == 1
    assert "other data" in capsys.readouterr().out


def test_a_truncated_file_is_refused(benchmark, tmp_path, capsys):
    file = tmp_path / "queue.json"
    file.write_text('{"runs": [')
    assert benchmark.main([str(file), "--results", str(tmp_path / "gpu")]) == 1
    assert "damaged" in capsys.readouterr().out


def test_the_latest_pace_of_a_recipe_is_kept_and_no_trials(collect, records, tmp_path):
    pace = {"recipe": NAME, "device": "GPU", "parallel": 1, "seconds_per_epoch": 2.0, "epochs": 9}
    assert collect(paces=[pace, {**pace, "recipe": f"tiny/{NAME}"}]) == 0
    compiled = {**pace, "compiled": "default", "seconds_per_epoch": 1.0, "seconds_to_start": 60.0}
    assert collect(paces=[{**pace, "seconds_per_epoch": 1.5}, {**pace, "parallel": 4}, compiled]) == 0
    kept = records.Paces("GPU", records.read_paces(tmp_path / "gpu"))
    assert kept.seconds_per_epoch(NAME, 1) == 1.5
    assert kept.seconds_per_epoch(NAME, 4) == 2.0
    assert kept.seconds_per_epoch(NAME, 1, "default") == 1.0
    assert kept.seconds_to_start(NAME, "default") == 60.0
    assert kept.seconds_to_start(NAME) is None
    assert kept.seconds_per_epoch(f"tiny/{NAME}", 1) is None


def test_the_commit_is_added_only_where_the_source_is_the_same(benchmark, records, monkeypatch):
    monkeypatch.setattr(benchmark, "_commit_of_source", lambda: "1" * 40)
    record = made_up_record(records, NAME)
    assert benchmark.with_commit(record) == record, "a commit that is known stays"
    record["environment"]["commit"] = None
    assert benchmark.with_commit(record)["environment"]["commit"] == "1" * 40
    assert benchmark.with_commit({**record, "source": "other"})["environment"]["commit"] is None
