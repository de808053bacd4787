import copy
import io
from typing import ClassVar

import pytest
import torch

import own_loop
import seats
import selfkd
from selfkd.contract import Needs
from selfkd.errors import BackboneError, BatchError, CheckpointError, OptionError, UnknownNameError, UserError
from selfkd.methods import METHODS
from selfkd.methods.base import Method
from selfkd.methods.plain import Plain
from selfkd.methods.ps_kd import PSKD
from selfkd.supervision.historical import Historical


def test_unknown_methods_bring_the_nearest(backbone, data):
    with pytest.raises(UnknownNameError, match="unknown method 'dtsk'; nearest: dtskd"):
        selfkd.create_method("dtsk", backbone, data)


def test_unknown_options_are_named(backbone, data):
    with pytest.raises(OptionError, match="beta_mx"):
        selfkd.create_method("dtskd", backbone, data, beta_mx=1)


def test_somebodys_own_class_is_taken(backbone, batch, data):
    method = selfkd.create_method("selfkd.methods.plain:Plain", backbone, data)
    assert torch.isfinite(method(batch, selfkd.Progress(0, 1)).loss)
    with pytest.raises(UserError, match="'nowhere:Plain' cannot be imported"):
        selfkd.create_method("nowhere:Plain", backbone, data)


def test_classes_must_agree(backbone):
    with pytest.raises(BackboneError, match="10 outputs, the data 7 classes"):
        selfkd.create_method("plain", backbone, selfkd.DatasetInfo(6, 7))


def test_a_method_that_needs_the_labels_gets_them(backbone):
    class Balanced(Plain):
        needs = Needs(labels=True)

    with pytest.raises(UserError, match=r"Balanced needs the label of every training sample; .*DatasetInfo\(labels="):
        Balanced(backbone, selfkd.DatasetInfo(3, 10))
    assert Balanced(backbone, selfkd.DatasetInfo(3, 10, labels=(4, 0, 9))).needs.labels


@pytest.mark.parametrize("given", ["historical", Historical, 1])
def test_what_is_no_supervision_is_refused_with_what_makes_one(given, backbone, data):
    with pytest.raises(OptionError, match=r"supervision=.* must be what selfkd.create_supervision\(name\) gives"):
        selfkd.create_method("plain", backbone, data, supervision=given)


@pytest.mark.parametrize(("name", "wrong"), [("loth", {"alpha": 5.0}), ("teskd", {"students": (9,)})])
def test_a_supervision_is_free_where_its_method_could_not_be_built(name, wrong, backbone, data):
    supervision = selfkd.create_supervision("historical")
    with pytest.raises(OptionError, match=next(iter(wrong))):
        selfkd.create_method(name, backbone, data, supervision=supervision, **wrong)
    assert selfkd.create_method(name, backbone, data, supervision=supervision).supervision is supervision


@pytest.mark.parametrize("supervision", [None, "smoothed", "historical"])
def test_a_head_that_learns_from_labels_gives_its_logits(supervision, backbone, batch, data):
    class Two(Plain):
        def __init__(self, backbone, data, *, supervision=None):
            Method.__init__(self, backbone, data)
            self.supervise(supervision, data, ("main", "branch"))

    method = Two(backbone, data, supervision=supervision and selfkd.create_supervision(supervision))
    method.begin_epoch(selfkd.Progress(0, 3))
    with pytest.raises(UserError, match="Two names the head 'branch' in supervise, .*; they have: main"):
        method(batch, selfkd.Progress(0, 3))


def test_an_epoch_that_was_never_ended_is_noticed(backbone, batch, data):
    method = selfkd.create_method("ps_kd", backbone, data)
    method.begin_epoch(selfkd.Progress(0, 3))
    method.after_step(batch, method(batch, selfkd.Progress(0, 3)))
    method.begin_epoch(selfkd.Progress(0, 3))  # broken off and begun again
    method.after_step(batch, method(batch, selfkd.Progress(0, 3)))
    with pytest.raises(UserError, match="epoch 0 was not ended; call end_epoch"):
        method.begin_epoch(selfkd.Progress(1, 3))


def test_a_network_that_is_not_staged_is_refused(backbone, data):
    with pytest.raises(BackboneError, match=r"selfkd.stage\(network\), not ResNetCifar"):
        selfkd.create_method("plain", backbone.network, data)


EPOCHS, SAMPLES = 4, 12


def own(name="dtskd", seed=0):
    torch.manual_seed(seed)
    backbone = selfkd.create_backbone("resnet18_cifar", 10, width=4, input_size=16)
    return seats.create_method(name, backbone, selfkd.DatasetInfo(SAMPLES, 10))


def batches(epoch, size=4, within=False):
    generator = torch.Generator().manual_seed(epoch)
    for indices in torch.randperm(SAMPLES, generator=generator).split(size):
        images = torch.randn(len(indices), 3, 16, 16, generator=generator)
        yield selfkd.Batch(images, indices % 10, torch.arange(len(indices)) if within else indices)


def optimizer_of(method):
    return torch.optim.SGD(method.parameter_groups(), lr=0.05, momentum=0.9)


def train(method, optimizer, until=EPOCHS, **options):
    return own_loop.train(method, optimizer, lambda epoch: batches(epoch, **options), EPOCHS, until)


@pytest.mark.parametrize("name", seats.EVERY_METHOD)
def test_a_loop_continues_from_its_training_state_as_if_it_had_never_stopped(name, tmp_path):
    unbroken = own(name)
    expected = train(unbroken, optimizer_of(unbroken))
    method = own(name)
    optimizer = optimizer_of(method)
    losses = train(method, optimizer, until=2)
    torch.save({"method": method.training_state(), "optimizer": optimizer.state_dict()}, tmp_path / "loop.pt")
    state = torch.load(tmp_path / "loop.pt", weights_only=True)
    continued = own(name, seed=1)
    optimizer = optimizer_of(continued)
    continued.load_training_state(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    assert continued.epochs_done == 2
    assert losses + train(continued, optimizer) == expected
    assert continued.epochs_done == EPOCHS
    for mine, theirs in zip(continued.state_dict().values(), unbroken.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_weights_alone_do_not_continue_a_method_that_remembers():
    trained = own()
    train(trained, optimizer_of(trained), until=2)
    method = own()
    method.load_state_dict(trained.state_dict())
    with pytest.raises(UserError, match=r"epoch 2 begins, but the memory of DTSKD is empty.*load_training_state"):
        method.begin_epoch(selfkd.Progress(2, EPOCHS))
    method.begin_epoch(selfkd.Progress(0, EPOCHS))  # a new training from these weights
    plain = own("plain")
    plain.begin_epoch(selfkd.Progress(2, EPOCHS))


def test_a_training_state_continues_with_its_epoch():
    trained = own()
    train(trained, optimizer_of(trained), until=2)
    state = copy.deepcopy(trained.training_state())
    method = own()
    method.load_training_state(state)
    for epoch in (0, 1, 3):
        with pytest.raises(UserError, match=rf"epoch {epoch} begins.*continues with epoch 2; write: for epoch"):
            method.begin_epoch(selfkd.Progress(epoch, EPOCHS))
    method.begin_epoch(selfkd.Progress(2, EPOCHS))


def test_a_training_state_is_taken_between_epochs():
    for name in ("plain", "dtskd"):
        method = own(name)
        assert method.training_state()["epochs_done"] == 0
        progress = selfkd.Progress(0, EPOCHS)
        method.begin_epoch(progress)
        with pytest.raises(UserError, match=r"epoch 0 was not ended; save training_state\(\) after end_epoch"):
            method.training_state()
    method = own("plain")
    method(next(batches(0)), progress)  # a loop that calls neither begin_epoch nor end_epoch
    with pytest.raises(UserError, match="epoch 0 was not ended"):
        method.training_state()


def test_states_that_do_not_fit_are_refused():
    method = own()
    state = copy.deepcopy(method.training_state())
    with pytest.raises(CheckpointError, match=r"expected the result of DTSKD.training_state\(\); a state_dict"):
        method.load_training_state(method.state_dict())
    with pytest.raises(CheckpointError, match="belongs to DTSKD, not to PSKD"):
        own("ps_kd").load_training_state(state)
    other = selfkd.create_method("dtskd", own().backbone, selfkd.DatasetInfo(SAMPLES + 1, 10))
    with pytest.raises(CheckpointError, match="does not fit this DTSKD: the saved history is .*'num_samples': 12"):
        other.load_training_state(state)
    for damage in ({"weights": {}}, {"memories": {}}, {"memories": {"history": None}}, {"epochs_done": "2"}):
        with pytest.raises(CheckpointError):
            method.load_training_state({**state, **damage})
    with pytest.raises(CheckpointError, match="epochs_done=-3, expected at least 0"):
        method.load_training_state({**state, "epochs_done": -3})


def without_weights(state):
    return {**state, "weights": {}}


def of_another_network(state):
    weights = dict(state["weights"])
    weights[min(weights)] = torch.zeros(1)
    return {**state, "weights": weights}


def with_half_a_history(state):
    history = state["memories"]["history"]
    return {**state, "memories": {"history": {**history, "written": history["written"][:1]}}}


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("damaged", [without_weights, of_another_network, with_half_a_history])
def test_of_a_state_that_is_refused_nothing_is_remembered(damaged, placed):
    trained = own()
    train(trained, optimizer_of(trained), until=2)
    method = own(seed=1)
    if placed:
        method.memories["history"].to("cpu")
    with pytest.raises(CheckpointError, match="does not fit this DTSKD"):
        method.load_training_state(damaged(trained.training_state()))
    assert method.memories["history"].is_empty
    assert method.epochs_done == 0
    assert train(method, optimizer_of(method), until=1), "a new training can begin"


@pytest.mark.parametrize("name", seats.REMEMBERING)
def test_a_loop_without_begin_epoch_is_noticed_at_its_first_batch(name):
    method, progress = own(name), selfkd.Progress(0, EPOCHS)
    with pytest.raises(UserError, match=r"batch of epoch 0 came, but begin_epoch\(progress\) was not called"):
        method(next(batches(0)), progress)
    with torch.no_grad():
        method(next(batches(0)), progress)  # no training step
    method.begin_epoch(progress)
    with pytest.raises(UserError, match="batch of epoch 1 came"):
        method(next(batches(0)), selfkd.Progress(1, EPOCHS))
    with pytest.raises(UserError, match="end_epoch was called for epoch 1, but epoch 0 was begun"):
        method.end_epoch(selfkd.Progress(1, EPOCHS))


@pytest.mark.parametrize("name", seats.REMEMBERING)
@pytest.mark.parametrize(("remembered", "said"), [((), 0), ((2,), 4)], ids=["never", "after the last batch alone"])
def test_a_loop_without_after_step_is_noticed_with_its_first_epoch(name, remembered, said):
    method, progress = own(name), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    for step, batch in enumerate(batches(0)):
        output = method(batch, progress)
        if step in remembered:
            method.after_step(batch, output)
    with pytest.raises(UserError, match=f"epoch 0 saw 12 samples, but after_step was called for {said} of them"):
        method.end_epoch(progress)


def test_a_loss_asked_for_twice_and_a_step_left_out_are_no_mistake():
    method, progress = own(), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    for step, batch in enumerate(batches(0, size=3)):
        outputs = [method(batch, progress) for _ in range(3)]
        if step != 1:
            method.after_step(batch, outputs[-1])
    method.end_epoch(progress)


@pytest.mark.parametrize("name", seats.REMEMBERING)
def test_a_loop_without_end_epoch_is_noticed_with_its_second(name):
    method = own(name)
    for after_step in (True, False):
        method.begin_epoch(selfkd.Progress(0, EPOCHS))
        for batch in batches(0):
            output = method(batch, selfkd.Progress(0, EPOCHS))
            if after_step:
                method.after_step(batch, output)
        with pytest.raises(UserError, match="epoch 0 was not ended; call end_epoch"):
            method.begin_epoch(selfkd.Progress(1, EPOCHS))


def steps(method, progress, epoch=0):
    for batch in batches(epoch):
        method.after_step(batch, method(batch, progress))


FOREVER = "epoch 0 saw 28 samples, more than twice a training set of 12, and was not ended.*end_epoch"


@pytest.mark.parametrize("name", seats.REMEMBERING)
@pytest.mark.parametrize("begins", [1, EPOCHS], ids=["begun once", "begun each time"])
def test_a_loop_whose_epoch_never_changes_is_noticed_in_its_third_pass(name, begins):
    method, progress = own(name), selfkd.Progress(0, EPOCHS)
    for epoch in range(2):
        if epoch < begins:
            method.begin_epoch(progress)
        steps(method, progress, epoch)
    if begins > 1:
        method.begin_epoch(progress)
    with pytest.raises(UserError, match=FOREVER):
        steps(method, progress, 2)


def test_an_epoch_may_be_broken_off_and_a_method_without_memory_trained_without_end():
    method, progress = own(), selfkd.Progress(0, EPOCHS)
    for _ in range(3):
        method.begin_epoch(progress)
        batch = next(batches(0))
        method.after_step(batch, method(batch, progress))
    method.begin_epoch(progress)
    steps(method, progress)
    method.end_epoch(progress)
    train(method, optimizer_of(method))  # each epoch is counted from its own start
    plain = own("plain")
    for epoch in range(3):
        steps(plain, progress, epoch)


class Followed(Plain):
    """Remembers, and sees two followers with each sample."""

    needs: ClassVar[selfkd.Needs] = selfkd.Needs(sample_index=True, same_class=2)

    def __init__(self, backbone, data):
        super().__init__(backbone, data)
        self.memories["history"] = selfkd.History(data.num_samples, data.num_classes, ["main"])


def with_followers(batch):
    """Each sample followed by itself, twice."""
    images, labels, indices = batch.images.repeat(3, 1, 1, 1), batch.labels.repeat(3), batch.indices.repeat(3)
    return selfkd.Batch(images, labels, indices, followers=2)


def test_followers_are_allowed_for_in_the_length_of_an_epoch(backbone):
    method = Followed(backbone, selfkd.DatasetInfo(SAMPLES, 10))
    progress = selfkd.Progress(0, 1)
    method.begin_epoch(progress)
    for batch in [*batches(0), *batches(1)]:
        method(with_followers(batch), progress)
    with pytest.raises(UserError, match="saw 28 samples"):
        method(with_followers(batch), progress)


@pytest.mark.parametrize("name", seats.REMEMBERING)
def test_an_epoch_that_was_ended_does_not_begin_again_unless_the_method_goes_back(name):
    method = own(name)
    train(method, optimizer_of(method), until=1)
    state = copy.deepcopy(method.training_state())
    train(method, optimizer_of(method), until=2)
    for epoch in (0, 1):
        with pytest.raises(UserError, match=f"epoch {epoch} begins, but 2 epochs were ended.*create a new method"):
            method.begin_epoch(selfkd.Progress(epoch, EPOCHS))
    method.load_training_state(state)
    assert train(method, optimizer_of(method), until=2), "epoch 1 again"


def test_a_class_that_overrides_begin_epoch_is_told_to_call_the_one_of_super():
    class Own(PSKD):
        def begin_epoch(self, progress):
            pass

    method, progress = Own(own().backbone, selfkd.DatasetInfo(SAMPLES, 10)), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    with pytest.raises(UserError, match=r"a subclass that overrides it calls super\(\).begin_epoch\(progress\)"):
        steps(method, progress)


def test_indices_that_count_within_the_batch_are_noticed():
    method = own()
    with pytest.raises(BatchError, match="12 samples were seen .* no index was above 3: .* within the batch"):
        train(method, optimizer_of(method), within=True)
    assert method.memories["history"].is_empty, "nothing wrong can be read"
    whole = own()
    assert len(train(whole, optimizer_of(whole), size=SAMPLES, within=True)) == EPOCHS, "one batch holds them all"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_be_pickled(name, backbone, batch, data):
    """A process that is started by `spawn` needs this, too."""
    methods = [seats.create_method(name, backbone, data)]
    file = io.BytesIO()
    torch.save(methods[0], file)
    file.seek(0)
    methods.append(torch.load(file, weights_only=False))
    losses = []
    for method in methods:
        method.begin_epoch(selfkd.Progress(0, 1))
        losses.append(method(batch, selfkd.Progress(0, 1)).loss.item())
    assert losses[0] == losses[1]


def test_an_own_method_may_have_an_own_prepare(backbone, batch, data):
    class Prepared(Plain):
        def prepare(self):
            raise AssertionError

    assert torch.isfinite(Prepared(backbone, data)(batch, selfkd.Progress(0, 1)).loss)
