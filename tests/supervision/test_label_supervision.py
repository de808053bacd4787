import pytest
import torch
from torch.nn.functional import cross_entropy

import selfkd
from selfkd.contract import Batch, DatasetInfo
from selfkd.errors import OptionError, UnknownNameError, UserError
from selfkd.supervision import SUPERVISIONS, create_supervision
from selfkd.supervision.labels import Labels

LOGITS_RK = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def bound():
    supervision = Labels()
    supervision.bind(DatasetInfo(4, 3), ("main",))
    return supervision


@pytest.mark.parametrize("labels", [torch.tensor([2, 0]), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])])
def test_the_loss_is_pytorchs_and_of_every_view(labels):
    batch = Batch(torch.zeros(4, 3, 8, 8), labels, views=2)
    assert torch.equal(bound().loss("main", LOGITS_RK, batch), cross_entropy(LOGITS_RK, torch.cat([labels, labels])))
    assert torch.equal(bound().loss("main", LOGITS_RK[:2], batch), cross_entropy(LOGITS_RK[:2], labels))
    target_BK = bound().target("main", batch)
    assert torch.allclose(
        -(target_BK * LOGITS_RK[:2].log_softmax(1)).sum(1).mean(), cross_entropy(LOGITS_RK[:2], labels)
    )


def test_half_precision_gives_a_float32_loss():
    batch = Batch(torch.zeros(4, 3, 8, 8), torch.tensor([2, 0, 1, 1]))
    assert bound().loss("main", LOGITS_RK.half(), batch).dtype == torch.float32


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_a_supervision_belongs_to_one_method(name):
    supervision = create_supervision(name)
    assert isinstance(supervision, selfkd.Supervision)
    supervision.bind(DatasetInfo(4, 3), ("main",))
    with pytest.raises(UserError, match="belongs to a method already; create one for each method"):
        supervision.bind(DatasetInfo(4, 3), ("main",))


def test_names_and_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="unknown supervision 'historcal'; nearest: historical"):
        create_supervision("historcal")
    with pytest.raises(OptionError, match="beta=1 is not allowed; supervision 'historical' has no such option"):
        create_supervision("historical", beta=1)
