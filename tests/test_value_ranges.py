import pytest
import torch

from selfkd import value_ranges
from selfkd.value_ranges import RecordedRange


def between(lowest, highest):
    return RecordedRange(lowest, highest, lambda value, number: ValueError(f"{value} in batch {number}"))


def test_the_first_batch_with_a_value_outside_is_named():
    values = between(0, 9)
    for batch in ([0, 9], [3], [4, -2, 11], [12]):
        values.record(torch.tensor(batch))
    with pytest.raises(ValueError, match="-2 in batch 3"):
        values.check_recorded()
    values.check_recorded()


def test_batches_are_counted_from_one_check_to_the_next_and_from_the_start_once_cleared():
    values = between(0, 9)
    values.record(torch.tensor([1]))
    values.check_recorded()
    values.record(torch.tensor([10]))
    with pytest.raises(ValueError, match="10 in batch 2"):
        values.check_recorded()
    values.record(torch.tensor([10]))
    values.clear()
    values.check_recorded()
    values.record(torch.tensor([10]))
    with pytest.raises(ValueError, match="10 in batch 1"):
        values.check_recorded()


def test_nan_is_outside():
    values = between(0, float("inf"))
    values.record(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="nan in batch 1"):
        values.check_recorded()


def test_records_are_checked_when_there_are_many(monkeypatch):
    monkeypatch.setattr(value_ranges, "_MOST_RECORDED", 3)
    values = between(0, 9)
    values.record(torch.tensor([10]))
    values.record(torch.tensor([1]))
    with pytest.raises(ValueError, match="10 in batch 1"):
        values.record(torch.tensor([1]))
