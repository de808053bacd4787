"""The contract of every method: what it needs, its step, its hooks, its state, and what remains of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput, TeacherRecord
from selfkd.errors import BackboneError, BatchError, CheckpointError, OptionError, UserError, shown
from selfkd.memories import Memory
from selfkd.memories.base import check_memory_name
from selfkd.methods.batch_checks import BatchChecks
from selfkd.methods.epoch_book import EpochBook
from selfkd.supervision.base import Supervision
from selfkd.supervision.labels import Labels
from selfkd.teachers.teacher import Teacher

__all__ = ["Method"]

_STATE = {"method", "epochs_done", "weights", "memories"}
_TEACHER = "teacher"  # in the state of a method that has one: the checksum of its weights


def _halving(backbone: Staged) -> bool:
    return all(
        later < earlier and later in (earlier // 2, (earlier + 1) // 2)
        for size, next_size in _steps(backbone.stage_shapes)
        for earlier, later in zip(size, next_size, strict=True)
    )


def _halving_or_equal(backbone: Staged) -> bool:
    return all(
        next_size in (size, tuple((side + 1) // 2 for side in size))
        for size, next_size in _steps((*backbone.stage_shapes[:-1], backbone.final_shape))
    )


def _steps(shapes: Sequence[tuple[int, int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Height and width of each map beside those of the next."""
    return pairwise((height, width) for _, height, width in shapes)


# Needs.stages: what is needed, in words, and whether a network has it.
_STAGE_RULES: Mapping[str, tuple[str, Callable[[Staged], bool]]] = {
    "any": ("stages of any size", lambda backbone: True),
    "halving": ("stages of which each is half the size of the one before", _halving),
    "halving_or_equal": (
        "stages of which each is half the size of the one before, rounded up, or equal",
        _halving_or_equal,
    ),
}


def _check_stages(method: type[Method], backbone: Staged) -> None:
    wanted, holds = _STAGE_RULES[method.needs.stages]
    if holds(backbone):
        return
    from selfkd.methods import METHODS

    working = [name for name in METHODS if _STAGE_RULES[METHODS.load(name).needs.stages][1](backbone)]
    sizes = ", ".join(f"{height}x{width}" for _, height, width in (*backbone.stage_shapes, backbone.final_shape))
    raise BackboneError(
        f"{method.__name__} needs {wanted}; those of {type(backbone.network).__name__} and its last map are {sizes} "
        f"pixels. Methods that work on it: {', '.join(working)}"
    )


def _seated(method: Method, keyword: str, given: object, kind: type, meaning: str) -> bool:
    """Whether a method has a second network of this kind, as it declares.

    Raises: OptionError: if what it has and what it declares differ.
    """
    needed: bool = getattr(method.needs, keyword)
    if given is not None and not needed:
        name = type(method).__name__
        raise OptionError(keyword, given, f"left out: {name} does not declare Needs({keyword}=True)")
    if needed and not isinstance(given, kind):
        raise OptionError(keyword, given, meaning)
    return needed


def _check_beside(backbone: Staged, role: str, other: Staged | TeacherRecord, shared: bool) -> None:
    """Refuse a second network that does not fit the first.

    Args:
        backbone: the first.
        role: of the second, in a word.
        other: what is known of the second.
        shared: whether they have a parameter in common.
    """
    if other.num_classes != backbone.num_classes:
        raise BackboneError(
            f"the {role} has {other.num_classes} classes, the network that it is to be beside {backbone.num_classes}; "
            "both must be the data's"
        )
    if other.input_size != backbone.input_size:
        own, needed = ("x".join(map(str, size)) for size in (other.input_size, backbone.input_size))
        raise BackboneError(f"the {role} takes images of {own} (channels, height, width), the network {needed}")
    if shared:
        raise BackboneError(f"the {role} is, or is a part of, the network itself; build one of its own")


class Method(nn.Module, ABC):
    """The objective of one paper, over a backbone that knows nothing of it.

    A subclass is final. Its keyword arguments are its configuration in recipes and on the command line, but for
    those of `selfkd.methods.RESERVED`, which sections of the same names give.
    A run calls `begin_epoch`, then for every batch the method itself and, after the optimiser's step, `after_step`,
    and at last `end_epoch`. `forward` has no side effect on what is remembered between epochs. A subclass that
    overrides `begin_epoch`, `after_step` or `end_epoch` calls the one of `super()`.

    `state_dict` holds the weights alone. To save a loop and continue it, use `training_state`.

    A method whose heads learn from labels takes the keyword argument `supervision`, hands it to `supervise`, and writes
    `label_loss` for each cross-entropy with the label.

    Args:
        backbone: the staged network that will be deployed.
        data: what is known of the training set.
        teacher: of a method that needs one.
        peer: of a method that needs one.
    Attributes:
        needs: of the class, what the method needs from data and run; of an instance, its supervision's needs too.
        refused: reserved keyword arguments that the method does not take, each with the reason.
        teacher: of a method that needs one; never among the modules.
        peer: of a method that needs one; a submodule that is trained along.
        supervision: what the heads that learn from labels are asked to predict, or None where there are none.
        memories: what is remembered across epochs, by name; never inside the weights. A subclass adds its own;
            "history" is the name of its supervision's.
    Raises:
        BackboneError: if the networks and the data differ in the number of classes or in the size of images, share
            parameters, or lack what the method needs.
        UserError: if the method needs the training set's labels, and `data` has none.
        OptionError: if the method needs a teacher or a peer and has none, or has one and does not declare it.
    """

    needs: Needs = Needs()
    refused: ClassVar[Mapping[str, str]] = {}
    teacher: Teacher
    peer: Staged

    def __init__(
        self, backbone: Staged, data: DatasetInfo, *, teacher: Teacher | None = None, peer: Staged | None = None
    ) -> None:
        super().__init__()
        if not isinstance(backbone, Staged):
            raise BackboneError(
                f"a method takes a Staged backbone: selfkd.stage(network), not {type(backbone).__name__}"
            )
        if backbone.num_classes != data.num_classes:
            raise BackboneError(
                f"the network has {backbone.num_classes} outputs, the data {data.num_classes} classes; "
                "build the network with the data's number of classes"
            )
        _check_stages(type(self), backbone)
        if self.needs.labels and data.labels is None:
            raise UserError(
                f"{type(self).__name__} needs the label of every training sample; give them in "
                "DatasetInfo(labels=...), in index order"
            )
        self.backbone = backbone
        self.num_classes = data.num_classes
        if _seated(self, "teacher", teacher, Teacher, "a selfkd.Teacher, the trained network that it learns from"):
            assert teacher is not None
            _check_beside(backbone, "teacher", teacher.record, teacher.shares_parameters_with(backbone))
            self.teacher = teacher
        if _seated(self, "peer", peer, Staged, "a second staged network, which it trains along"):
            assert peer is not None
            shared = not {*map(id, peer.parameters())}.isdisjoint(map(id, backbone.parameters()))
            _check_beside(backbone, "peer", peer, shared)
            self.peer = peer
        self.supervision: Supervision | None = None
        self.memories: dict[str, Memory] = {}
        self._checks = BatchChecks(type(self).__name__, self.needs, data)
        self._book = EpochBook(type(self).__name__, data)
        self._first_batch = True

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """The objective for one batch. Call the method object itself, which checks the batch."""

    def supervise(self, supervision: Supervision | None, data: DatasetInfo, heads: Sequence[str]) -> None:
        """Say which heads learn from labels, and what they are asked to predict; a subclass calls it in its `__init__`.

        Args:
            supervision: of this method alone; None for the labels.
            data: what is known of the training set.
            heads: their names.
        Raises:
            OptionError: if it is no `Supervision`.
            UserError: if it is another method's, needs more than a loader gives, or one of its memories has the name of
                one that is there.
        """
        if not isinstance(supervision, Supervision | None):
            raise OptionError(
                "supervision", supervision, "what selfkd.create_supervision(name) gives, or None for the labels"
            )
        self.supervision = Labels() if supervision is None else supervision
        if not self.supervision.needs.are_of_batches:
            raise UserError(
                f"{type(self.supervision).__name__} declares {self.supervision.needs}; a supervision may need "
                "sample_index, views and same_class alone"
            )
        self.supervision.bind(data, heads)
        for name, memory in self.supervision.memories.items():
            if name in self.memories:
                raise UserError(
                    f"{type(self).__name__}.memories[{name!r}] is there already, and its supervision, "
                    f"{type(self.supervision).__name__}, brings one of that name; give yours another name"
                )
            self.memories[name] = memory
        self.needs = self.needs | self.supervision.needs
        self._checks = BatchChecks(type(self).__name__, self.needs, data)

    def label_loss(self, head: str, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a head with what it is asked to predict, mean over the rows.

        Args:
            head: one of the heads that learn from labels.
            logits: `[R, K]` of the batch's first R images: all of them, those of the first view, or of its anchors.
            batch: that this step was called with.
        Returns: 0-d tensor in nat, float32 or wider.
        """
        if self.supervision is None or head not in self.supervision.heads:
            raise UserError(f"{type(self).__name__} calls label_loss for {head!r}, which it does not name in supervise")
        return self.supervision.loss(head, logits, batch)

    def begin_epoch(self, progress: Progress) -> None:
        """Prepare an epoch; one that was broken off and begins again is forgotten.

        What is remembered is brought to the device of the network.

        Raises:
            BatchError: what `guard` raises, of the steps before.
            UserError: if a memory is not among `memories`, or under a wrong name, or in the place of the supervision's,
                if another epoch was never ended, if earlier epochs left nothing that the method remembers
                (weights were loaded without the rest), if the epoch was ended and its predictions are remembered, or
                if it is not the one at which a loaded training state stands.
            StorageError: if there is no room for what is remembered.
        """
        self._check_memories()
        self.guard()
        self._book.begin(progress.epoch, self.memories.values(), self._written_each_step)
        self._discard()
        self._checks.forget()
        device = next(self.backbone.parameters()).device
        for memory in self.memories.values():
            memory.to(device)

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Remember what the step computed; called after the optimiser's step.

        Args:
            batch: as it came. Of labels and indices that only a device knows, wrong ones still stand in it: what is to
                be remembered of labels or targets is taken in `forward`, which gets the checked batch.
            output: of the method for this batch; `output.remembered` is for this method.
        """
        self._book.stepped(batch)
        if self.supervision is not None:
            self.supervision.after_step(batch, output)

    def guard(self) -> None:
        """Look at labels and indices that only a device knows. Waits for it; `begin_epoch` and `end_epoch` do this too.

        Raises: BatchError: if one was out of range since the last look. The weights have learnt from it: continue from
            what was saved before. What the epoch remembered is forgotten.
        """
        try:
            self._checks.look()
            for memory in self.memories.values():
                memory.guard()
        except BatchError:
            self._discard()
            raise

    def end_epoch(self, progress: Progress) -> None:
        """Close an epoch: what was remembered in it becomes readable.

        Raises:
            BatchError: if a label or an index of the epoch was out of range, or its indices counted within the batch.
            UserError: if `after_step` was not called for the epoch's batches, or another epoch was begun.
        """
        self.guard()
        if self.memories:
            self._book.check_end(progress.epoch, self.memories.values(), self._written_each_step)
        for memory in self.memories.values():
            memory.commit()
        self._book.end(progress.epoch)

    @property
    def epochs_done(self) -> int:
        """Epochs that were ended, those before a loaded training state included: the number of the next epoch."""
        return self._book.done

    def continue_after(self, epochs_done: int) -> None:
        """Stand where so many epochs are done, once weights and memories were loaded; the next must be the next one."""
        self._checks.forget()
        self._book.continue_after(epochs_done)

    def training_state(self) -> dict[str, Any]:
        """All that a loop needs to continue after an epoch: weights, what is remembered, and the number of epochs done.

        `torch.load(..., weights_only=True)` reads it. Its tensors are the method's own, no copies. Optimiser, schedule
        and random numbers are the loop's and have states of their own.

        Raises: UserError: within an epoch, of which only a part is remembered.
        """
        self._book.check_between()
        return {
            "method": type(self).__name__,
            "epochs_done": self.epochs_done,
            "weights": self.state_dict(),
            "memories": self.memories_state(),
            **({_TEACHER: self.teacher.record.checksum} if self.needs.teacher else {}),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was called; `epochs_done` then is the next epoch.

        Args:
            state: on any device; it must not be changed before the next epoch begins.
        Raises: CheckpointError: if it is no training state, or that of another method, network, teacher or data set;
            nothing is remembered of it then.
        """
        name = type(self).__name__
        keys = _STATE | {_TEACHER} if self.needs.teacher else _STATE
        if not isinstance(state, Mapping) or set(state) != keys or type(state["epochs_done"]) is not int:
            raise CheckpointError(
                f"expected what {name}.training_state() gave; a state_dict() holds the weights alone, from which a new "
                "training can begin: load_state_dict(weights)"
            )
        if state["epochs_done"] < 0:
            raise CheckpointError(f"the training state says epochs_done={state['epochs_done']}, expected at least 0")
        if state["method"] != name:
            raise CheckpointError(f"the training state is one of {state['method']}, not of {name}")
        if self.needs.teacher and state[_TEACHER] != self.teacher.record.checksum:
            raise CheckpointError(f"the training state is of a {name} that learns from another teacher")
        try:
            self.load_state_dict(state["weights"])
            self.load_memories_state(state["memories"])  # last, and it checks before it changes anything
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the training state does not fit this {name}: {error}") from error
        self.continue_after(state["epochs_done"])

    def memories_state(self) -> dict[str, dict[str, object]]:
        """What is remembered, by name; of `training_state` the part that is no weight."""
        return {name: memory.state_dict() for name, memory in self.memories.items()}

    def load_memories_state(self, states: Mapping[str, Mapping[str, object]]) -> None:
        """Remember what `memories_state` gave.

        Args:
            states: on any device; they must not be changed before the next epoch begins.
        Raises: ValueError: if a memory is missing, or one is of something else; nothing is remembered of it then.
        """
        if set(states) != set(self.memories):
            there, needed = (", ".join(sorted(names)) or "nothing" for names in (states, self.memories))
            raise ValueError(f"{there} is remembered there, {type(self).__name__} remembers {needed}")
        for name, memory in self.memories.items():
            memory.check_state_dict(states[name])
        for name, memory in self.memories.items():
            memory.load_state_dict(states[name])

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Logits `[B, K]` of every head, by name; "main" first."""
        return {"main": self.backbone(images).logits}

    def deployed(self) -> nn.Module:
        """The plain network, as it was given; the rest of the method can be thrown away."""
        return self.backbone.network

    def exits(self) -> Mapping[str, nn.Module]:
        """The sub-networks that can be deployed, by head name."""
        return {"main": self.deployed()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; one group, unless a paper treats parts differently."""
        return [{"params": list(self.parameters())}]

    def __call__(self, batch: Batch, progress: Progress) -> StepOutput:
        output: StepOutput = super().__call__(self._admitted(batch, progress), progress)
        if self._first_batch:
            self._check_heads(output)
        self._first_batch = False
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _admitted(self, batch: Batch, progress: Progress) -> Batch:
        """A batch that was checked and counted, what it will read prepared; never a part of a compiled graph."""
        if self._first_batch:
            self._check_memories()  # again, for a loop without hooks
        trains = self.training and torch.is_grad_enabled()
        if trains and self._book.turns_to(progress.epoch, self.memories.values()):
            self._checks.look()  # a loop without hooks has no other moment
            self._checks.forget()
        batch = self._checks(batch)
        if self.needs.teacher:
            self.teacher.follow(batch.images)
        if trains:
            self._book.saw(batch, self.memories.values())
        memories = self.memories.values()
        if self.needs.sample_index and not (memories and all(memory.checks_indices for memory in memories)):
            batch = self._checks.check_indices(batch)
        if batch.indices is not None:
            for memory in memories:
                memory.fetch(batch.indices, batch.host_indices)
        if self.supervision is not None:
            self.supervision.admit(batch, progress)
        return batch

    @property
    def _written_each_step(self) -> Collection[Memory]:
        return () if self.supervision is None else self.supervision.memories.values()

    def _check_memories(self) -> None:
        """Refuse a memory that would be overlooked, replaced, or without a file.

        Raises: UserError: naming it.
        """
        own = type(self).__name__
        for name, memory in self.memories.items():
            check_memory_name(name)
            if not isinstance(memory, Memory):
                raise UserError(f"{own}.memories[{name!r}] is {shown(memory)}; it must be a selfkd.Memory")
        for name, memory in {} if self.supervision is None else self.supervision.memories.items():
            if self.memories.get(name) is not memory:
                raise UserError(
                    f"{own}.memories[{name!r}] is no longer that of its supervision, "
                    f"{type(self.supervision).__name__}; give yours another name, and put it beside"
                )
        known = {*map(id, self.memories.values())}
        for module in self.modules():
            for attribute, value in vars(module).items():
                if isinstance(value, Memory) and id(value) not in known:
                    raise UserError(
                        f"{type(module).__name__}.{attribute} is a memory that is in no checkpoint and that no epoch "
                        f"begins or ends; put it into self.memories[name] in the __init__ of {own}"
                    )

    def _check_heads(self, output: StepOutput) -> None:
        """Refuse a step that leaves out the logits of a head.

        Raises: UserError: naming it.
        """
        own = type(self).__name__
        if "main" not in output.logits:
            raise UserError(f"{own} must give logits of its deployed head under the name 'main'")
        for head in () if self.supervision is None else self.supervision.heads:
            if head not in output.logits:
                raise UserError(
                    f"{own} names the head {head!r} in supervise, so its StepOutput.logits must have logits of it; "
                    f"they have those of {', '.join(output.logits)}"
                )

    def _discard(self) -> None:
        for memory in self.memories.values():
            memory.discard()
