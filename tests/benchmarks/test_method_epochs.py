import copy

import pytest
import torch

ENVIRONMENT = {"device": "made up", "threads": 1, "packages": {"torch": "0.0"}, "commit": "0123456789"}
ROW = {
    "losses": [4.6, 4.1],
    "steps": 79,
    "accuracies": {"train": {"main": 7.0, "fusion": 6.0}, "test": {"main": 6.5, "fusion": 6.0}},
    "evaluated": {"train": 10_000, "test": 10_000},
    "images": 10_000,
    "seconds": 20.0,
    "processor_seconds": 16.0,
    "load": 0.5,
    "environment": ENVIRONMENT,
}


def row(**changes):
    return {**copy.deepcopy(ROW), **changes}


@pytest.fixture
def trained_in(elsewhere, monkeypatch):
    """`trained_in(seconds)`: each training takes the next of these times, or fails if it is None; nothing is trained.

    Gives a list, to which each training adds the name of its method.
    """

    def replace(*seconds):
        trained, times = [], iter(seconds)

        def train(method, data_root):
            trained.append(method)
            taken = next(times)
            if taken is None:
                raise elsewhere.TrainingFailedError("out of memory")
            return row(seconds=taken)

        monkeypatch.setattr(elsewhere, "train_in_own_process", train)
        return trained

    return replace


def test_the_baseline_trains_before_and_after_each_method(elsewhere, trained_in):
    trained = trained_in(10.0, 30.0, 20.0, 30.0, 40.0)
    assert elsewhere.main(["--methods", "loth", "plain", "frskd"]) == 0
    assert trained == ["plain", "loth", "plain", "frskd", "plain"]
    rows = elsewhere.REPORT.read()["rows"]
    assert {name: elsewhere.relative(each, "seconds") for name, each in rows.items()} == {
        "plain": 1,
        "loth": 2,
        "frskd": 1,
    }
    assert elsewhere.REPORT.page_file.read_text() == elsewhere.REPORT.rendered()


def test_a_method_that_fails_is_kept_with_its_error_and_the_others_go_on(elsewhere, trained_in, capsys):
    trained = trained_in(10.0, None, 5.0, 10.0)
    assert elsewhere.main(["--methods", "loth", "frskd"]) == 1
    assert trained == ["plain", "loth", "frskd", "plain"]
    rows = elsewhere.REPORT.read()["rows"]
    assert rows["loth"] == {"error": "out of memory"}
    assert elsewhere.relative(rows["frskd"], "seconds") == 0.5
    page = elsewhere.REPORT.page_file.read_text()
    assert "- loth: out of memory" in page
    assert "| loth " not in page
    assert "loth: out of memory" in capsys.readouterr().out


def test_the_rows_of_other_methods_stay(elsewhere, trained_in):
    trained_in(10.0, 30.0, 10.0, 10.0, 40.0, 10.0)
    elsewhere.main(["--methods", "frskd"])
    elsewhere.main(["--methods", "loth"])
    rows = elsewhere.REPORT.read()["rows"]
    assert [name for name in rows if name in ("plain", "loth", "frskd")] == ["plain", "loth", "frskd"]
    assert rows["frskd"]["seconds"] == 30


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"losses": [4.6, float("nan")]}, "the loss is not finite"),
        ({"losses": [4.6, 4.6]}, "the loss does not fall"),
        # Of 10,000 guesses 1 % are right, with a standard deviation of 0.1 points.
        ({"accuracies": {"train": {"main": 7.0}, "test": {"main": 1.29}}}, "the accuracy on the test split is not"),
        ({"accuracies": {"train": {"main": 1.29}, "test": {"main": 1.31}}}, "the accuracy on the train split is not"),
        ({"accuracies": {"train": {"main": 1.31}, "test": {"main": 1.31}}}, None),
    ],
)
def test_what_does_not_learn_is_found(benchmark, changes, fault):
    found = benchmark.faults(row(**changes))
    assert len(found) == (fault is not None)
    assert all(fault in each for each in found)


def test_the_page_has_a_row_for_each_method(benchmark):
    baseline = [row(), row(seconds=30.0, processor_seconds=24.0)]
    rows = {"plain": row(), "frskd": row(seconds=50.0, baseline=baseline)}
    page = benchmark.page({"recipe": benchmark.RECIPE, "options": benchmark.OPTIONS, "rows": rows})
    line = next(each for each in page.splitlines() if each.startswith("| frskd"))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "frskd",
        "4.600",
        "4.100",
        "7.00",
        "6.50",
        "10,000",
        "50.0",
        "2.00",
        "0.80",
    ]
    assert "Did not learn" not in page


def test_the_methods_are_those_without_a_teacher(benchmark):
    names = benchmark.methods_without_teacher()
    assert {"plain", "loth", "frskd", "dml"} <= set(names)
    assert "kd" not in names


def test_a_real_training_gives_a_row(benchmark, monkeypatch, digits_as_cifar100):
    def refuse(hook):
        raise AssertionError("a hook on every module would cost time in each of them")

    monkeypatch.setattr(torch.nn.modules.module, "register_module_forward_hook", refuse)
    monkeypatch.setattr(benchmark, "OPTIONS", {"backbone.width": 4, "trainer.epochs": 1, "loader.batch_size": 10})
    monkeypatch.setattr(benchmark, "STEPS", 2)
    found = benchmark.train("dtskd", digits_as_cifar100)  # which also prepares each step
    assert (found["steps"], found["images"]) == (6, 60)
    assert len(found["losses"]) == 2
    assert all(0 < loss < float("inf") for loss in found["losses"])
    assert found["evaluated"] == {"train": 60, "test": 20}
    assert list(found["accuracies"]["test"]) == ["main", "branch1", "branch2", "branch3"]
    assert found["environment"]["device"] == "cpu"
    assert found["seconds"] > 0
    assert found["processor_seconds"] > 0


@pytest.mark.slow
def test_without_the_baseline_nothing_is_written(elsewhere, tmp_path):
    before = elsewhere.REPORT.read()
    with pytest.raises(SystemExit, match="plain, which the others are compared with, failed: .*data.root"):
        elsewhere.main(["--methods", "frskd", "--data-root", str(tmp_path / "missing")])
    assert elsewhere.REPORT.read() == before
