import pytest
import torch

from selfkd.errors import BackboneError, MemoryExhaustedError, OptionError
from selfkd.training.memory import memory_for, memory_to_evaluate


def taking(error=None):
    try:
        torch.empty(1 << 50)
    except RuntimeError as cause:
        if error is None:
            raise
        raise error from cause


@pytest.mark.parametrize("error", [None, BackboneError("a network cannot be built")])
def test_too_little_memory_is_said_with_what_was_done_and_what_might_fit(error):
    said = r"^reading needs more memory than there is \(.*\); read less$"
    with pytest.raises(MemoryExhaustedError, match=said), memory_for("reading", "read less"):
        taking(error)
    with (
        pytest.raises(MemoryExhaustedError, match="loader.evaluation_batch_size=7 needs more memory"),
        memory_to_evaluate(7),
    ):
        raise MemoryError


@pytest.mark.parametrize("error", [OptionError("data.image_size", 9, "smaller"), MemoryExhaustedError("4 GB")])
def test_an_error_that_names_the_option_stays(error):
    with pytest.raises(type(error)) as raised, memory_for("reading", "read less"):
        taking(error)
    assert raised.value is error


def test_other_errors_stay():
    with pytest.raises(ValueError, match="no memory is wanted"), memory_for("reading", "read less"):
        raise ValueError("no memory is wanted")
