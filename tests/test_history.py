import pytest
import torch

from selfkd.errors import OptionError
from selfkd.history import History, HistoryOptions


def probabilities(seed, rows, heads=("main", "branch1"), classes=3):
    generator = torch.Generator().manual_seed(seed)
    return {head: torch.rand(rows, classes, generator=generator).softmax(1) for head in heads}


@pytest.fixture
def history():
    return History(5, 3, ("main", "branch1"))


def test_unwritten_rows_read_as_the_label(history):
    labels = torch.tensor([2, 0])
    for head in history.read(torch.tensor([1, 4]), labels).values():
        assert head.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_writes_are_read_after_the_epoch_only(history):
    indices, labels = torch.tensor([3, 1]), torch.tensor([0, 0])
    written = probabilities(0, 2)
    history.write(indices, written)
    assert history.read(indices, labels)["main"].tolist() == [[1, 0, 0], [1, 0, 0]]
    history.advance()
    read = history.read(torch.tensor([1, 3, 0]), torch.tensor([0, 0, 2]))
    for head in ("main", "branch1"):
        assert torch.equal(read[head][:2], written[head].flip(0))
        assert read[head][2].tolist() == [0, 0, 1]


def test_rows_that_an_epoch_leaves_out_keep_their_older_value(history):
    first, second = probabilities(1, 2), probabilities(2, 1)
    history.write(torch.tensor([0, 1]), first)
    history.advance()
    history.write(torch.tensor([1]), second)
    history.advance()
    history.advance()  # an epoch without any write
    read = history.read(torch.tensor([0, 1]), torch.tensor([0, 0]))["branch1"]
    assert torch.equal(read[0], first["branch1"][0])
    assert torch.equal(read[1], second["branch1"][0])


def test_a_discarded_epoch_leaves_no_trace(history):
    kept = probabilities(3, 5)
    everything, labels = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    history.write(everything, kept)
    history.advance()
    history.write(everything, probabilities(4, 5))
    history.discard_unfinished()
    history.advance()
    assert torch.equal(history.read(everything, labels)["main"], kept["main"])


def test_state_survives_a_round_trip_and_is_loaded_without_pickled_code(history, tmp_path):
    history.write(torch.tensor([2]), probabilities(5, 1))
    history.advance()
    torch.save(history.state_dict(), tmp_path / "history.pt")
    restored = History(5, 3, ("main", "branch1"))
    restored.load_state_dict(torch.load(tmp_path / "history.pt", weights_only=True))
    everything, labels = torch.arange(5), torch.ones(5, dtype=torch.int64)
    for head, rows in history.read(everything, labels).items():
        assert torch.equal(rows, restored.read(everything, labels)[head])


def test_a_state_of_another_shape_is_refused(history):
    with pytest.raises(ValueError, match="'num_samples': 6"):
        history.load_state_dict(History(6, 3, ("main", "branch1")).state_dict())


def test_nothing_it_stores_carries_gradient_and_reads_are_float32():
    history = History(2, 3, ("main",), HistoryOptions(dtype="float16"))
    logits = torch.randn(2, 3, requires_grad=True)
    history.write(torch.arange(2), {"main": logits.softmax(1)})
    history.advance()
    read = history.read(torch.arange(2), torch.tensor([0, 1]))["main"]
    assert not read.requires_grad
    assert read.dtype == torch.float32
    assert torch.allclose(read, logits.softmax(1), atol=1e-3)


def test_its_size_is_known_beforehand():
    assert History(50_000, 100, ("main", "b1", "b2", "b3")).nbytes == 2 * (50_000 * 4 * 100 * 4 + 50_000)


def test_wrong_arguments_are_refused(history):
    with pytest.raises(ValueError, match=r"outside \[0, 5\).*num_samples"):
        history.write(torch.tensor([5]), probabilities(0, 1))
    with pytest.raises(ValueError, match="heads"):
        history.write(torch.tensor([0]), probabilities(0, 1, heads=("main",)))
    with pytest.raises(OptionError, match="num_classes=1"):
        History(5, 1, ("main",))
