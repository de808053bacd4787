"""What holds for every method with every supervision, or why it takes none."""

import copy
import inspect
from contextlib import nullcontext
from functools import partial

import pytest
import torch

import own_loop
import seats
import selfkd
from selfkd.data.augmentation.augmentations import CropFlip
from selfkd.data.loading.resident import TrainingLoader
from selfkd.data.splits import ImageSet
from selfkd.errors import CheckpointError, OptionError, UserError
from selfkd.losses import label_probabilities
from selfkd.memories import HistoryOptions
from selfkd.methods import METHODS
from selfkd.methods.base import Method
from selfkd.recipes.reader import resolve
from selfkd.runs.build import Experiment
from selfkd.runs.teachers import untrained_teacher
from selfkd.supervision import SUPERVISIONS

SIZE, CLASSES, SAMPLES, EPOCHS = 16, 5, 8, 3
TAKING = [name for name in METHODS if "supervision" in inspect.signature(METHODS.load(name)).parameters]
TRAINED = [each for each in seats.EVERY_METHOD if each.values[0] in TAKING]
"""Those of `TAKING`; the representatives in `make test`, all others in the slow tests."""


def built(name, supervision=None, seed=0):
    torch.manual_seed(seed)
    backbone = selfkd.create_backbone("resnet18_cifar", CLASSES, width=8, input_size=SIZE)
    given = {} if supervision is None else {"supervision": selfkd.create_supervision(supervision)}
    return seats.create_method(name, backbone, selfkd.DatasetInfo(SAMPLES, CLASSES), **given)


def batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    for indices in torch.randperm(SAMPLES, generator=generator).split(4):
        yield selfkd.Batch(torch.randn(4, 3, SIZE, SIZE, generator=generator), indices % CLASSES, indices)


def optimizer_of(method):
    return torch.optim.SGD(method.parameter_groups(), 0.05)


def trained(method, until=EPOCHS):
    return own_loop.train(method, optimizer_of(method), batches, EPOCHS, until)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(TAKING)))
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_a_method_that_takes_none_says_why(name, supervision):
    reason = METHODS.load(name).refused["supervision"]
    with pytest.raises(UserError) as raised:
        built(name, supervision)
    assert str(raised.value) == f"method {name!r} takes no supervision: {reason}"


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_it_trains_and_continues_as_if_it_never_stopped(name, supervision):
    unbroken = built(name, supervision)
    losses = trained(unbroken)
    assert all(torch.isfinite(torch.tensor(losses)))

    first = built(name, supervision)
    assert trained(first, until=2) == losses[:4]
    state = copy.deepcopy(first.training_state())
    second = built(name, supervision, seed=1)
    second.load_training_state(state)
    assert trained(second) == losses[4:]
    for key, value in unbroken.state_dict().items():
        assert torch.equal(second.state_dict()[key], value)
    assert set(second.memories) >= set(second.supervision.memories)


@pytest.mark.parametrize("name", TRAINED)
def test_the_labels_are_the_default_and_others_ask_for_something_else(name):
    first = {supervision: trained(built(name, supervision)) for supervision in (None, *SUPERVISIONS)}
    assert first["labels"] == first[None]
    assert first["smoothed"][0] != first["labels"][0]
    assert first["historical"][:2] == pytest.approx(first["labels"][:2], rel=1e-5), "no past yet"
    assert first["historical"][2] != pytest.approx(first["labels"][2], rel=1e-5)


@pytest.mark.parametrize("name", TAKING)
def test_every_head_that_learns_from_labels_has_a_past_of_its_own(name):
    method = built(name, "historical")
    assert method.needs.sample_index
    assert method.needs.stages == type(method).needs.stages, "what the class needs stays"
    progress = selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    batch = next(batches(0))
    output = method(batch, progress)
    method.after_step(batch, output)
    history = method.memories["history"]
    history.commit()
    assert set(history.heads) == set(method.supervision.heads) == set(output.logits) - {"ensemble"}
    read = history.read(batch.indices, batch.labels)
    for head in history.heads:
        torch.testing.assert_close(read[head], output.logits[head].detach().softmax(dim=1))


@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_labels_may_be_soft(name, supervision):
    method, progress = built(name, supervision), selfkd.Progress(0, EPOCHS)
    method.begin_epoch(progress)
    batch = next(batches(0))
    hard = method(batch, progress).loss
    soft = selfkd.Batch(batch.images, label_probabilities(batch.labels, CLASSES), batch.indices)
    torch.testing.assert_close(method(soft, progress).loss, hard)


@pytest.mark.parametrize("name", TAKING)
def test_a_state_of_another_supervision_is_refused(name):
    remembering, other = built(name, "historical"), built(name)
    more, less = (", ".join(sorted(method.memories)) or "none" for method in (remembering, other))
    with pytest.raises(CheckpointError, match=f"the state are: {more}; those of .* are: {less}$"):
        other.load_training_state(remembering.training_state())
    with pytest.raises(CheckpointError, match=f"the state are: {less}; those of .* are: {more}$"):
        remembering.load_training_state(built(name).training_state())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("mixture", ["mixup", "cutmix"])
def test_mixed_images_are_refused_where_samples_must_be_known_and_only_there(name, mixture):
    mixed = {"method": name, "backbone.width": 8, f"regularization.{mixture}": 1.0}
    if METHODS.load(name).needs.teacher:
        mixed |= {"teacher": "run", "teacher.path": "somewhere"}

    message = f"regularization.{mixture}=1.0 .*0 with a method that needs the sample"
    for supervision in SUPERVISIONS:
        needs = METHODS.load(name).needs | SUPERVISIONS.load(supervision).needs
        recipe = resolve("demo/digits/resnet18/plain", mixed | {"supervision": supervision})
        experiment = Experiment.build(recipe, teacher=partial(untrained_teacher, recipe))
        with pytest.raises(OptionError, match=message) if needs.sample_index else nullcontext():
            experiment.training_parts()


class Paired(Method):
    """Two views of pairs of one class: every image learns from its label."""

    needs = selfkd.Needs(views=2, same_class=1)

    def __init__(self, backbone, data, *, supervision=None):
        super().__init__(backbone, data)
        self.supervise(supervision, data, ("main",))

    def forward(self, batch, progress):
        logits_RK = self.backbone(batch.images).logits
        loss = self.label_loss("main", logits_RK, batch)
        return selfkd.StepOutput(loss, {"loss": loss}, {"main": logits_RK})


@pytest.mark.parametrize("storage", ["device", "memmap"])
def test_of_views_and_followers_the_first_view_of_each_anchor_writes_once_an_epoch(storage, tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    data = ImageSet(images, torch.arange(12) % 3)
    backbone = selfkd.create_backbone("resnet18_cifar", 3, width=4, input_size=SIZE)
    info = selfkd.DatasetInfo(12, 3)
    method = Paired(backbone, info, supervision=selfkd.create_supervision("historical"))
    assert method.needs == selfkd.Needs(sample_index=True, views=2, same_class=1)
    history = method.memories["history"]
    history.configure(HistoryOptions(storage=storage), tmp_path)
    loader = TrainingLoader(data, CropFlip(padding=2), (0.5,) * 3, (0.25,) * 3, 4, 0, method.needs)
    for epoch in range(2):
        progress = selfkd.Progress(epoch, 2)
        method.begin_epoch(progress)
        expected_NK = torch.zeros(12, 3)
        for batch in loader.epoch(epoch):
            output = method(batch, progress)
            output.loss.backward()
            method.after_step(batch, output)
            first_view_AK = batch.unstacked(output.logits["main"])[0, 0]
            expected_NK[batch.indices[: batch.anchors]] = first_view_AK.detach().softmax(dim=1)
        assert history.samples_written == 12
        method.end_epoch(progress)
        state = history.state_dict()
        assert state["written"].all()
        torch.testing.assert_close(state["probabilities"][:, 0], expected_NK)
