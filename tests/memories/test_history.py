import copy
import logging

import pytest
import torch

from selfkd.errors import BatchError, OptionError, UserError
from selfkd.memories import History, HistoryOptions

STORAGES = ("device", "pinned", "memmap")
FORMS = {"dense": {}, "half": {"dtype": "float16"}, "top": {"top_k": 2}}


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
    history.commit()
    read = history.read(torch.tensor([1, 3, 0]), torch.tensor([0, 0, 2]))
    for head in ("main", "branch1"):
        assert torch.equal(read[head][:2], written[head].flip(0))
        assert read[head][2].tolist() == [0, 0, 1]


def test_rows_that_an_epoch_leaves_out_keep_their_older_value(history):
    first, second = probabilities(1, 2), probabilities(2, 1)
    history.write(torch.tensor([0, 1]), first)
    history.commit()
    history.write(torch.tensor([1]), second)
    history.commit()
    history.commit()  # an epoch without any write
    read = history.read(torch.tensor([0, 1]), torch.tensor([0, 0]))["branch1"]
    assert torch.equal(read[0], first["branch1"][0])
    assert torch.equal(read[1], second["branch1"][0])


def test_a_discarded_epoch_leaves_no_trace(history):
    kept = probabilities(3, 5)
    everything, labels = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    history.write(everything, kept)
    history.commit()
    history.write(everything, probabilities(4, 5))
    history.discard()
    history.commit()
    assert torch.equal(history.read(everything, labels)["main"], kept["main"])


def test_state_survives_a_round_trip_and_is_loaded_without_pickled_code(history, tmp_path):
    history.write(torch.tensor([2]), probabilities(5, 1))
    history.commit()
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
    history.commit()
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


def test_indices_are_looked_at_again_once_they_were_written(history):
    indices = torch.tensor([1, 2])
    history.fetch(indices)
    history.write(indices, probabilities(0, 2))
    indices += 3  # in place
    with pytest.raises(BatchError, match=r"sample index 5 lies outside"):
        history.write(indices, probabilities(0, 2))


@pytest.mark.parametrize("wrong", [5, -1])
def test_an_index_that_only_a_device_knows_is_refused_before_anything_can_be_read(history, wrong, monkeypatch):
    everything, labels = torch.arange(5), torch.zeros(5, dtype=torch.int64)
    history.write(everything, probabilities(0, 5))
    history.commit()
    before = history.read(everything, labels)
    monkeypatch.setattr("selfkd.memories.history.readable_now", lambda values: False)
    for indices in ([0, 1], [2, wrong], [3, 4]):
        history.read(torch.tensor(indices), labels[:2])
        history.write(torch.tensor(indices), probabilities(1, 2))
    with pytest.raises(BatchError, match=rf"in batch 2 of the epoch, sample index {wrong} lies outside \[0, 5\)"):
        history.commit()
    assert history.samples_written == 0
    history.commit()  # nothing of that epoch is left
    after = history.read(everything, labels)
    assert all(torch.equal(before[head], after[head]) for head in before)


def test_indices_that_count_within_the_batch_are_refused(history):
    for _ in range(2):
        history.write(torch.arange(2), probabilities(0, 2))
    with pytest.raises(BatchError, match="4 samples were seen in batches of at most 2, but no index was above 1"):
        history.commit()
    history.commit()
    assert history.is_empty
    for indices in ([0, 1], [1, 2]):  # drawn with replacement
        history.write(torch.tensor(indices), probabilities(0, 2))
    history.commit()
    assert not history.is_empty


def made(folder, storage="auto", samples=5, classes=6, **form):
    history = History(samples, classes, ("main", "branch1"))
    history.configure(HistoryOptions(storage=storage, **form), folder)
    return history


def lived(history):
    """Three epochs: all rows, some of them again, one broken off after some of others."""
    for epoch, indices in enumerate((torch.arange(4), torch.tensor([2, 0]), torch.tensor([1]))):
        history.write(indices, probabilities(epoch, len(indices), classes=6))
        if epoch < 2:
            history.commit()
    history.discard()
    return history


def all_read(history):
    return history.read(torch.arange(5), torch.ones(5, dtype=torch.int64))


def assert_same(mine, theirs):
    assert set(mine) == set(theirs)
    for head, rows in mine.items():
        assert torch.equal(rows, theirs[head])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("storage", STORAGES)
def test_where_it_lives_changes_nothing(storage, form, tmp_path):
    history = lived(made(tmp_path, storage, **form))
    expected = lived(made(tmp_path, **form))
    assert_same(all_read(history), all_read(expected))
    states = history.state_dict(), expected.state_dict()
    for mine, theirs in zip(*(state.values() for state in states), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
    assert not list(tmp_path.iterdir()), "files have no names"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_run_continues_in_another_place(storage, form, tmp_path):
    history = lived(made(tmp_path, **form))
    torch.save(history.state_dict(), tmp_path / "history.pt")
    continued = made(tmp_path, storage, **form)
    continued.load_state_dict(torch.load(tmp_path / "history.pt", weights_only=True))
    assert_same({"kept": continued.state_dict()["written"]}, {"kept": history.state_dict()["written"]})
    continued.to("cpu")
    for each in (history, continued):
        each.write(torch.tensor([4, 1]), probabilities(7, 2, classes=6))
        each.commit()
    assert_same(all_read(continued), all_read(history))


def test_a_state_of_another_form_is_refused_naming_both(tmp_path):
    state = lived(made(tmp_path, top_k=2)).state_dict()
    for form, name in (({}, "all classes in float32"), ({"top_k": 3}, "top 3 classes in float16")):
        with pytest.raises(ValueError, match=f"top 2 classes in float16.*{name}"):
            made(tmp_path, **form).load_state_dict(state)
    del state["classes"]
    with pytest.raises(ValueError, match="expected"):
        made(tmp_path, top_k=2).load_state_dict(state)


def test_a_state_from_before_there_were_forms_is_loaded():
    history = lived(made(None))
    state = history.state_dict()
    del state["form"]
    restored = made(None)
    restored.load_state_dict(state)
    assert_same(all_read(restored), all_read(history))


def test_a_loaded_state_is_copied_and_must_not_change_before(tmp_path):
    history = lived(made(tmp_path))
    early, late = made(tmp_path), made(tmp_path)
    for restored in (early, late):
        restored.load_state_dict(history.state_dict())
    early.to("cpu")
    expected = copy.deepcopy(all_read(history))
    for epoch in range(2):  # its tables change places, so that what was given away is written to
        history.write(torch.arange(5), probabilities(8 + epoch, 5, classes=6))
        history.commit()
        history.write(torch.arange(5), probabilities(9, 5, classes=6))
    assert_same(all_read(early), expected)
    with pytest.raises(RuntimeError, match="was changed"):
        late.to("cpu")


def test_it_is_configured_before_anything_is_written(tmp_path):
    history = lived(made(tmp_path))
    with pytest.raises(UserError, match="before anything is written"):
        history.configure(HistoryOptions(top_k=2))
    placed = made(tmp_path).to("cpu")
    placed.configure(HistoryOptions(top_k=2), tmp_path)
    assert lived(placed).state_dict()["values"].shape == (5, 2, 2)


@pytest.mark.parametrize("storage", STORAGES)
def test_its_size_is_what_its_tables_take(storage, tmp_path):
    for form in FORMS.values():
        history = lived(made(tmp_path, storage, **form))
        assert history.nbytes == 2 * sum(
            value.nbytes for value in history.state_dict().values() if torch.is_tensor(value)
        )


def test_imagenet_takes_half_a_gigabyte_and_says_why(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    history = History(1_281_167, 1000, ("main", "b1", "b2", "b3"))
    assert history.nbytes <= 0.5e9
    assert history.described() == (
        "the history of predictions takes 0.49 GB on the device that trains if there is room: the top 12 of 1000 "
        "classes, since all of them would take 41.00 GB (history.top_k=0 keeps them)"
    )
    history.configure(HistoryOptions(top_k=0, storage="memmap"), tmp_path)
    assert history.described() == (
        f"the history of predictions takes 41.00 GB in files in {tmp_path}: all 1000 classes in float32"
    )
    small = made(tmp_path, top_k=2, storage="pinned").to("cpu")
    assert small.described() == (
        "the history of predictions takes 0.00 MB in main memory: the top 2 of 6 classes; "
        "all of them would take 0.00 MB"
    )
    assert "is kept in main memory: history.storage=pinned" in caplog.text


class FromAfar(History):
    """Treats the CPU as an accelerator, whose rows must be fetched and sent."""

    def _is_apart(self, device):
        return self._next is not None


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_that_travel_are_the_same(form, told, tmp_path):
    histories = made(tmp_path, **form), FromAfar(5, 6, ("main", "branch1"), HistoryOptions(storage="pinned", **form))
    labels = torch.tensor([3, 5])
    for epoch in range(3):
        for step, indices in enumerate(torch.arange(4).split(2)):
            read = []
            for history in histories:
                history.fetch(indices, indices.clone() if told else None)
                read.append(history.read(indices, labels))
                assert_same(history.read(indices.flip(0), labels.flip(0)), {h: r.flip(0) for h, r in read[-1].items()})
                history.write(indices, probabilities(10 * epoch + step, 2, classes=6))
            assert_same(*read)
        for history in histories:
            history.commit()
    assert_same(*map(all_read, histories))


def test_rows_under_way_are_forgotten_with_their_epoch(tmp_path):
    history = FromAfar(5, 6, ("main", "branch1"))
    history.write(torch.arange(5), probabilities(0, 5, classes=6))
    history.commit()
    expected = all_read(history)
    history._receive = lambda wait=False: None  # the device is slow
    history.write(torch.arange(5), probabilities(1, 5, classes=6))
    history.discard()
    del history._receive
    history.write(torch.tensor([2]), {head: rows[2:3] for head, rows in expected.items()})
    history.commit()
    assert_same(all_read(history), expected)


def test_fetched_rows_are_checked_where_it_costs_nothing():
    history = FromAfar(5, 3, ("main", "branch1"))
    history.write(torch.arange(5), probabilities(0, 5))
    with pytest.raises(ValueError, match=r"outside \[0, 5\)"):
        history.fetch(torch.tensor([1]), torch.tensor([5]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("storage", ["auto", *STORAGES])
def test_on_a_gpu_it_is_the_same_and_waits_for_nothing(storage, form, tmp_path):
    there, here = made(tmp_path, storage, **form).to("cuda"), made(tmp_path, **form)
    labels = torch.tensor([3, 5])
    for epoch in range(3):
        for step, indices in enumerate(torch.arange(4).split(2)):
            written = {head: rows.cuda() for head, rows in probabilities(10 * epoch + step, 2, classes=6).items()}
            batch, labels_there = indices.cuda(), labels.cuda()
            torch.cuda.set_sync_debug_mode("error")
            try:
                there.fetch(batch, indices)
                read = there.read(batch, labels_there)
                there.write(batch, written)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            expected = here.read(indices, labels)
            assert_same({head: rows.cpu() for head, rows in read.items()}, expected)
            here.write(indices, {head: rows.cpu() for head, rows in written.items()})
        there.commit()
        here.commit()
