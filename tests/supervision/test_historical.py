import pytest
import torch

from selfkd.contract import Batch, DatasetInfo, Progress, StepOutput
from selfkd.losses import kl_to_target
from selfkd.losses.labels import label_probabilities
from selfkd.supervision import Historical
from selfkd.supervision.decay import cosine

# Specification, section 5.4, history trace: beta, target, loss, what is stored.
TRACE = [
    (0.9, [0, 0, 1, 0], 0.811176, [0.072095, 0.387968, 0.444333, 0.095605]),
    (0.768198, [0.016712, 0.089932, 0.871195, 0.022161], 1.678344, [0.411081, 0.470804, 0.101300, 0.016815]),
    (0.45, [0.226094, 0.258942, 0.505715, 0.009248], 1.286124, [0.784488, 0.168794, 0.028018, 0.018701]),
    (0.131802, [0.681091, 0.146546, 0.156127, 0.016236], 0.255811, None),
]


def test_shares_as_tensors_are_those_of_a_number_bit_for_bit():
    torch.manual_seed(0)
    supervision = Historical(DatasetInfo(64, 100), ("main",), lambda progress: cosine(progress, 0.9, 0.0))
    batch = Batch(torch.zeros(64, 3, 8, 8), torch.arange(64), torch.arange(64))
    supervision.after_step(batch, StepOutput(torch.zeros(()), logits={"main": torch.randn(64, 100)}))
    supervision.history.advance()
    past_BK = supervision.history.read(batch.indices, batch.labels)["main"]
    for epoch in range(1, 50):
        progress = Progress(epoch, 50)
        beta = supervision.label_share(progress)
        expected_BK = beta * label_probabilities(batch.labels, 100) + (1 - beta) * past_BK
        assert torch.equal(supervision.targets(batch, progress)["main"], expected_BK), "the epoch was not begun"
        supervision.begin_epoch(progress, torch.device("cpu"))
        assert torch.equal(supervision.targets(batch, progress)["main"], expected_BK)


def test_history_trace():
    supervision = Historical(DatasetInfo(1, 4), ("main",), lambda progress: cosine(progress, 0.9, 0.0))
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([2]), torch.tensor([0]))
    for epoch, (beta, target, loss, stored) in enumerate(TRACE):
        progress = Progress(epoch, len(TRACE))
        logits = 2 * torch.sin(torch.arange(4.0) + epoch)[None]
        assert supervision.label_share(progress) == pytest.approx(beta, abs=1e-6)
        targets = supervision.targets(batch, progress)
        assert targets["main"][0].tolist() == pytest.approx(target, abs=1e-6)
        assert kl_to_target(logits, targets["main"], 1e-7).item() == pytest.approx(loss, abs=2e-6)
        supervision.after_step(batch, StepOutput(torch.zeros(()), logits={"main": logits}))
        supervision.history.advance()
        if stored is not None:
            read = supervision.history.read(batch.indices, batch.labels)["main"]
            assert read[0].tolist() == pytest.approx(stored, abs=1e-6)
