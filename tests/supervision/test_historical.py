import pytest
import torch

from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.errors import OptionError
from selfkd.losses import kl_to_target, soft_cross_entropy
from selfkd.losses.labels import label_probabilities
from selfkd.supervision.decay import cosine
from selfkd.supervision.historical import Historical, PreviousPrediction

# Specification, section 5.4, history trace: beta, target, loss, what is stored.
TRACE = [
    (0.9, [0, 0, 1, 0], 0.811176, [0.072095, 0.387968, 0.444333, 0.095605]),
    (0.768198, [0.016712, 0.089932, 0.871195, 0.022161], 1.678344, [0.411081, 0.470804, 0.101300, 0.016815]),
    (0.45, [0.226094, 0.258942, 0.505715, 0.009248], 1.286124, [0.784488, 0.168794, 0.028018, 0.018701]),
    (0.131802, [0.681091, 0.146546, 0.156127, 0.016236], 0.255811, None),
]


class Falling(PreviousPrediction):
    """Beta as DTSKD has it."""

    def label_share(self, progress):
        return cosine(progress, 0.9, 0.0)


def bound(supervision, samples, classes, heads=("main",)):
    supervision.bind(DatasetInfo(samples, classes), heads)
    return supervision


def step(supervision, batch, **logits):
    supervision.after_step(batch, StepOutput(torch.zeros(()), logits=logits))


def test_shares_as_tensors_are_those_of_a_number_bit_for_bit():
    torch.manual_seed(0)
    supervision = bound(Falling(), 64, 100)
    batch = Batch(torch.zeros(64, 3, 8, 8), torch.arange(64), torch.arange(64))
    step(supervision, batch, main=torch.randn(64, 100))
    history = supervision.memories["history"]
    history.commit()
    past_BK = history.read(batch.indices, batch.labels)["main"]
    for epoch in range(1, 50):
        progress = Progress(epoch, 50)
        beta = supervision.label_share(progress)
        supervision.prepare(batch, progress)
        expected_BK = beta * label_probabilities(batch.labels, 100) + (1 - beta) * past_BK
        assert torch.equal(supervision.target("main", batch), expected_BK)


def test_history_trace():
    supervision = bound(Falling(), 1, 4)
    history = supervision.memories["history"]
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([2]), torch.tensor([0]))
    for epoch, (beta, target, loss, stored) in enumerate(TRACE):
        progress = Progress(epoch, len(TRACE))
        logits = 2 * torch.sin(torch.arange(4.0) + epoch)[None]
        assert supervision.label_share(progress) == pytest.approx(beta, abs=1e-6)
        supervision.prepare(batch, progress)
        found = supervision.target("main", batch)
        assert found[0].tolist() == pytest.approx(target, abs=1e-6)
        assert kl_to_target(logits, found, 1e-7).item() == pytest.approx(loss, abs=2e-6)
        step(supervision, batch, main=logits)
        history.commit()
        if stored is not None:
            read = history.read(batch.indices, batch.labels)["main"]
            assert read[0].tolist() == pytest.approx(stored, abs=1e-6)


@pytest.mark.parametrize(
    ("decay", "shares"),
    [("linear", [0.8, 0.6, 0.4, 0.2]), ("cosine", [0.882843, 0.6, 0.317157, 0.2]), ("fixed", [0.2] * 4)],
)
def test_the_labels_share_falls_to_what_alpha_leaves(decay, shares):
    supervision = Historical(alpha=0.8, decay=decay)
    found = [supervision.label_share(Progress(epoch, 4)) for epoch in range(4)]
    assert found == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("options", [{"alpha": 1.2}, {"alpha": -0.1}, {"decay": "slow"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(OptionError, match=f"supervision.{next(iter(options))}="):
        Historical(**options)


# Two views of two anchors, samples 0 and 1, each followed by the other: rows are view, member, anchor.
CLASSES = 3
FOLLOWED = Batch(torch.zeros(8, 3, 8, 8), torch.tensor([2, 2, 2, 2]), torch.tensor([0, 1, 1, 0]), views=2, followers=1)


def test_the_first_view_of_an_anchor_writes_and_all_views_and_followers_read():
    supervision = bound(Historical(alpha=1.0, decay="fixed"), 3, CLASSES)
    history = supervision.memories["history"]
    supervision.prepare(FOLLOWED, Progress(0, 2))
    logits_RK = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(0))
    step(supervision, FOLLOWED, main=logits_RK)
    assert history.samples_written == 2
    history.commit()
    written_AK = logits_RK[:2].softmax(dim=1)
    state = history.state_dict()
    assert torch.equal(state["probabilities"][:2, 0], written_AK)
    assert state["written"].tolist() == [True, True, False]

    supervision.prepare(FOLLOWED, Progress(1, 2))
    target_BK = supervision.target("main", FOLLOWED)
    assert torch.equal(target_BK, written_AK[FOLLOWED.indices]), "a follower reads its own sample's row"
    loss = supervision.loss("main", logits_RK, FOLLOWED)
    torch.testing.assert_close(loss, soft_cross_entropy(logits_RK, torch.cat([target_BK, target_BK])))
    anchors = supervision.loss("main", logits_RK[:2], FOLLOWED)
    torch.testing.assert_close(anchors, soft_cross_entropy(logits_RK[:2], written_AK))


def test_rows_in_main_memory_are_written_by_the_indices_that_are_known_there(monkeypatch):
    """As of a device that trains: nobody asks it for the anchors' indices."""
    supervision = bound(Historical(), 3, CLASSES)
    history = supervision.memories["history"].to("cpu")
    monkeypatch.setattr(history, "_is_elsewhere", lambda device: True)
    absent = torch.empty(4, dtype=torch.int64, device="meta")  # of which no number can be known
    batch = Batch(FOLLOWED.images, FOLLOWED.labels, absent, 2, FOLLOWED.indices, 1)
    history.fetch(batch.indices, batch.host_indices)
    step(supervision, batch, main=torch.zeros(8, CLASSES))
    history.commit()
    assert history.state_dict()["written"].tolist() == [True, True, False]
