import pytest
import torch

from selfkd import value_ranges
from selfkd.value_ranges import DeferredRange


def between(lowest, highest):
    return DeferredRange(lowest, highest, lambda value, number: ValueError(f"{value} in batch {number}"))


def test_the_first_batch_with_a_value_outside_is_named():
    values = between(0, 9)
    for batch in ([0, 9], [3], [4, -2, 11], [12]):
        values.note(torch.tensor(batch))
    with pytest.raises(ValueError, match="-2 in batch 3"):
        values.look()
    values.look()


def test_batches_are_counted_from_one_look_to_the_next_and_from_the_start_once_forgotten():
    values = between(0, 9)
    values.note(torch.tensor([1]))
    values.look()
    values.note(torch.tensor([10]))
    with pytest.raises(ValueError, match="10 in batch 2"):
        values.look()
    values.note(torch.tensor([10]))
    values.forget()
    values.look()
    values.note(torch.tensor([10]))
    with pytest.raises(ValueError, match="10 in batch 1"):
        values.look()


def test_nan_is_outside():
    values = between(0, float("inf"))
    values.note(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="nan in batch 1"):
        values.look()


def test_who_never_looks_is_made_to(monkeypatch):
    monkeypatch.setattr(value_ranges, "_MOST_NOTED", 3)
    values = between(0, 9)
    values.note(torch.tensor([10]))
    values.note(torch.tensor([1]))
    with pytest.raises(ValueError, match="10 in batch 1"):
        values.note(torch.tensor([1]))
