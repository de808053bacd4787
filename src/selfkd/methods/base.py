"""The base class of every method: its needs, its step, its hooks, its state, and the network that it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from selfkd.backbones.staged import Staged
from selfkd.contract import Batch, DatasetInfo, Needs, Progress, StepOutput, TeacherRecord
from selfkd.errors import BackboneError, BatchError, CheckpointError, OptionError, UserError, shown
from selfkd.losses import total
from selfkd.memories import Memory
from selfkd.memories.base import check_memory_name
from selfkd.methods.batch_checks import BatchChecks, check_normalised_values
from selfkd.methods.loop_checks import LoopChecks
from selfkd.methods.network_checks import check_network
from selfkd.supervision.base import Supervision
from selfkd.supervision.labels import Labels
from selfkd.teachers.teacher import Teacher

__all__ = ["Method"]

_STATE = {"method", "epochs_done", "weights", "memories"}
_TEACHER = "teacher"  # key of the checksum of a teacher's weights


def _check_declared(method: Method, keyword: str, given: object, kind: type, meaning: str) -> bool:
    """Whether the method has a second network. It must have one if its class declares it, and only then.

    Raises: OptionError: if a declared network is missing or of another kind, or a network is not declared.
    """
    declared: bool = getattr(method.needs, keyword)
    if given is not None and not declared:
        name = type(method).__name__
        raise OptionError(keyword, given, reason=f"{name} does not declare Needs({keyword}=True); leave {keyword} out")
    if declared and not isinstance(given, kind):
        raise OptionError(keyword, given, meaning)
    return declared


def _check_second_network(backbone: Staged, role: str, second: Staged | TeacherRecord, shared: bool) -> None:
    """Refuse a second network that does not fit the backbone.

    Args:
        backbone: the network that will be deployed.
        role: "teacher" or "peer".
        second: facts about the second network.
        shared: whether the two have a parameter in common.
    """
    if second.num_classes != backbone.num_classes:
        raise BackboneError(
            f"the {role} has {second.num_classes} classes, the network {backbone.num_classes}; both must have the "
            "data's classes"
        )
    if second.input_size != backbone.input_size:
        own, needed = ("x".join(map(str, size)) for size in (second.input_size, backbone.input_size))
        raise BackboneError(f"the {role} takes images of {own} (channels, height, width), the network {needed}")
    if shared:
        raise BackboneError(f"the {role} shares parameters with the network; build the {role} separately")


class Method(nn.Module, ABC):
    """The objective of one paper, for a backbone that knows nothing of it.

    A subclass is final. Its keyword arguments are its options in recipes and on the command line, except those in
    `selfkd.methods.RESERVED`, which sections of the same names give.

    A run calls `begin_epoch`, then for every batch the method itself and, after the optimiser's step, `after_step`, and
    at the end `end_epoch`. `forward` does not change the memories. A subclass that overrides `begin_epoch`,
    `after_step` or `end_epoch` calls the one of `super()`.

    `state_dict` holds the weights alone. To save a loop and continue it, use `training_state`.

    A method whose heads learn from labels takes the keyword argument `supervision`, passes it to `supervise`, and calls
    `label_loss` for each cross-entropy with the label, or `label_losses` for their sum.

    Args:
        backbone: the staged network that will be deployed.
        data: facts about the training set.
        teacher: for a method that declares `Needs(teacher=True)`.
        peer: for a method that declares `Needs(peer=True)`.
    Attributes:
        group: the kind of the method, one of `selfkd.methods.listing.GROUPS`. Each method in `METHODS` names its own; a
            method that is not listed there needs none.
        needs: what the method needs from data and run; an instance's needs include those of its supervision.
        refused: reserved keyword arguments that the method does not take, each with the reason.
        teacher: the teacher, if there is one; it is not a submodule.
        peer: the peer, if there is one; a submodule that is trained along.
        supervision: the target of the heads that learn from labels, or None if no head does.
        memories: what the method keeps from one epoch to the next beside its weights, by name. A subclass adds its own;
            "history" is the name of the supervision's memory.
    Raises:
        BackboneError: if the networks and the data differ in the number of classes or in the size of images, if the
            networks share parameters, or if a network lacks what the method needs.
        UserError: if the method needs the training set's labels, and `data` has none.
        OptionError: if a declared teacher or peer is missing, or one is given that is not declared.
    """

    group: ClassVar[str]
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
                f"a method needs a Staged backbone, such as selfkd.stage(network), not {type(backbone).__name__}"
            )
        if backbone.num_classes != data.num_classes:
            raise BackboneError(
                f"the network has {backbone.num_classes} outputs, the data {data.num_classes} classes; "
                "build the network with the data's number of classes"
            )
        check_network(type(self), backbone)
        if self.needs.labels and data.labels is None:
            raise UserError(
                f"{type(self).__name__} needs the label of every training sample; give them in "
                "DatasetInfo(labels=...), in index order"
            )
        self.backbone = backbone
        self.num_classes = data.num_classes
        if _check_declared(self, "teacher", teacher, Teacher, "a selfkd.Teacher, the trained network to learn from"):
            assert teacher is not None
            _check_second_network(backbone, "teacher", teacher.record, teacher.shares_parameters_with(backbone))
            self.teacher = teacher
        if _check_declared(self, "peer", peer, Staged, "a second staged network, which is trained along"):
            assert peer is not None
            shared = not {*map(id, peer.parameters())}.isdisjoint(map(id, backbone.parameters()))
            _check_second_network(backbone, "peer", peer, shared)
            check_network(type(self), peer, "peer")
            self.peer = peer
        self.supervision: Supervision | None = None
        self.memories: dict[str, Memory] = {}
        self._checks = BatchChecks(type(self).__name__, self.needs, data)
        self._loop = LoopChecks(type(self).__name__, data)
        self._first_batch = True

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Compute the objective for one batch. Call the method itself instead: it checks the batch first."""

    def prepare_step(self, batch: Batch, progress: Progress) -> None:
        """Prepare what `forward` reads beside the checked batch. Called before it; does nothing by default.

        It is never a part of a compiled graph. A number that changes from epoch to epoch is made a tensor here
        (`selfkd.supervision.epoch_number`).
        """

    @property
    def networks(self) -> tuple[Staged, ...]:
        """The networks that are trained: the backbone, and the peer if there is one."""
        return (self.backbone, self.peer) if self.needs.peer else (self.backbone,)

    def supervise(self, supervision: Supervision | None, data: DatasetInfo, heads: Sequence[str]) -> None:
        """Set the target of the heads that learn from labels. A subclass calls this in its `__init__`.

        Args:
            supervision: the target, for this method alone; None for the labels.
            data: facts about the training set.
            heads: names of the heads that learn from labels.
        Raises:
            OptionError: if `supervision` is not a `Supervision`.
            UserError: if it belongs to another method, needs more than a loader gives, or brings a memory whose name is
                taken.
        """
        if not isinstance(supervision, Supervision | None):
            raise OptionError(
                "supervision", supervision, "what selfkd.create_supervision(name) gives, or None for the labels"
            )
        self.supervision = Labels() if supervision is None else supervision
        if not self.supervision.needs.are_met_by_loader:
            raise UserError(
                f"{type(self.supervision).__name__} declares {self.supervision.needs}; a supervision may need "
                "sample_index, views and same_class alone"
            )
        self.supervision.bind(data, heads)
        for name, memory in self.supervision.memories.items():
            if name in self.memories:
                raise UserError(
                    f"{type(self).__name__}.memories[{name!r}] exists already, and its supervision, "
                    f"{type(self.supervision).__name__}, brings a memory of that name; give yours another name"
                )
            self.memories[name] = memory
        self.needs = self.needs | self.supervision.needs
        self._checks = BatchChecks(type(self).__name__, self.needs, data)

    def label_loss(self, head: str, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a head with its target, mean over the rows.

        Args:
            head: one of the heads that learn from labels.
            logits: `[R, K]` of the batch's first R images: all images, those of the first view, or its anchors.
            batch: the batch of this step.
        Returns: 0-d tensor in nat, float32 or wider.
        """
        if self.supervision is None or head not in self.supervision.heads:
            raise UserError(f"{type(self).__name__} calls label_loss for {head!r}, which it does not name in supervise")
        return self.supervision.loss(head, logits, batch)

    def label_losses(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The sum of the cross-entropies of all heads that learn from labels.

        Args:
            logits: the logits of these heads, as for `label_loss`, and perhaps of others, by name.
            batch: the batch of this step.
        Returns: 0-d tensor in nat, float32 or wider.
        """
        heads = () if self.supervision is None else self.supervision.heads
        return total(self.label_loss(head, logits[head], batch) for head in heads)

    def begin_epoch(self, progress: Progress) -> None:
        """Begin an epoch, and move the memories to the network's device. An epoch that was broken off begins anew.

        Raises:
            BatchError: what `guard` raises, for the steps before.
            UserError: if a memory is not in `memories`, has a wrong name or has replaced the supervision's; if another
                epoch was not ended; if the memories are empty after earlier epochs (weights were loaded without them);
                if this epoch was ended already; or if a loaded training state continues with another epoch.
            StorageError: if there is no room for a memory.
        """
        self._check_memories()
        self.guard()
        self._loop.begin_epoch(progress.epoch, self.memories.values(), self._written_each_step)
        self._discard()
        self._checks.clear()
        device = next(self.backbone.parameters()).device
        for memory in self.memories.values():
            memory.to(device)

    def after_step(self, batch: Batch, output: StepOutput) -> None:
        """Store in the memories what the step computed. Called after the optimiser's step.

        Args:
            batch: as it came. Wrong labels and indices that only a device knows still stand in it. So take labels and
                targets in `forward`, which gets the checked batch.
            output: what the method gave for this batch; `output.remembered` is meant for this hook.
        """
        self._loop.count_step(batch)
        if self.supervision is not None:
            self.supervision.after_step(batch, output)

    def guard(self) -> None:
        """Check labels and indices that only a device knows. Waits for it; `begin_epoch` and `end_epoch` do this too.

        Raises: BatchError: if one was out of range since the last check. The weights have learnt from it: continue from
            what was saved before. The epoch's writes to the memories are forgotten.
        """
        try:
            self._checks.check_recorded()
            for memory in self.memories.values():
                memory.guard()
        except BatchError:
            self._discard()
            raise

    def end_epoch(self, progress: Progress) -> None:
        """End an epoch. What it wrote to the memories can now be read.

        Raises:
            BatchError: if a label or an index of the epoch was out of range, or if the indices seem to be positions
                within the batch.
            UserError: if `after_step` was not called for the epoch's batches, or another epoch was begun.
        """
        self.guard()
        if self.memories:
            self._loop.check_end(progress.epoch, self.memories.values(), self._written_each_step)
        for memory in self.memories.values():
            memory.commit()
        self._loop.end_epoch(progress.epoch)

    @property
    def epochs_done(self) -> int:
        """Number of the epochs that were ended, with those before a loaded training state; the next epoch's number."""
        return self._loop.epochs_done

    def continue_after(self, epochs_done: int) -> None:
        """Continue with epoch number `epochs_done`. Call it after weights and memories were loaded."""
        self._checks.clear()
        self._loop.continue_after(epochs_done)

    def training_state(self) -> dict[str, Any]:
        """What a loop saves of the method to continue after an epoch: weights, memories and the number of epochs done.

        `torch.load(..., weights_only=True)` reads it. Its tensors are the method's own, no copies. The loop saves the
        states of optimiser, schedule and random numbers itself.

        Raises: UserError: if an epoch has begun and was not ended.
        """
        self._loop.check_between_epochs()
        return {
            "method": type(self).__name__,
            "epochs_done": self.epochs_done,
            "weights": self.state_dict(),
            "memories": self.memories_state(),
            **({_TEACHER: self.teacher.record.checksum} if self.needs.teacher else {}),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Load what `training_state` gave; the next epoch then is number `epochs_done`.

        Args:
            state: on any device. Do not change it before the next epoch begins.
        Raises: CheckpointError: if it is not a training state, or belongs to another method, network, teacher or data
            set; then the memories have not changed.
        """
        name = type(self).__name__
        keys = _STATE | {_TEACHER} if self.needs.teacher else _STATE
        if not isinstance(state, Mapping) or set(state) != keys or type(state["epochs_done"]) is not int:
            raise CheckpointError(
                f"expected the result of {name}.training_state(); a state_dict() holds the weights alone: "
                "load_state_dict(weights) begins a new training with them"
            )
        if state["epochs_done"] < 0:
            raise CheckpointError(f"the training state says epochs_done={state['epochs_done']}, expected at least 0")
        if state["method"] != name:
            raise CheckpointError(f"the training state belongs to {state['method']}, not to {name}")
        if self.needs.teacher and state[_TEACHER] != self.teacher.record.checksum:
            raise CheckpointError(f"the training state belongs to a {name} with another teacher")
        try:
            self.load_state_dict(state["weights"])
            self.load_memories_state(state["memories"])  # last, and it checks before it changes anything
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the training state does not fit this {name}: {error}") from error
        self.continue_after(state["epochs_done"])

    def memories_state(self) -> dict[str, dict[str, object]]:
        """The states of the memories, by name; a part of `training_state`."""
        return {name: memory.state_dict() for name, memory in self.memories.items()}

    def load_memories_state(self, states: Mapping[str, Mapping[str, object]]) -> None:
        """Load what `memories_state` gave.

        Args:
            states: on any device. Do not change them before the next epoch begins.
        Raises: ValueError: if a memory is missing, or a state does not fit its memory; then no memory has changed.
        """
        if set(states) != set(self.memories):
            found, needed = (", ".join(sorted(names)) or "none" for names in (states, self.memories))
            raise ValueError(f"the memories of the state are: {found}; those of {type(self).__name__} are: {needed}")
        for name, memory in self.memories.items():
            memory.check_state_dict(states[name])
        for name, memory in self.memories.items():
            memory.load_state_dict(states[name])

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Logits `[B, K]` of every head, by name; "main" first."""
        return {"main": self.backbone(images).logits}

    def deployed(self) -> nn.Module:
        """The plain network, as it was given to the method. The rest of the method is not needed any more."""
        return self.backbone.network

    def exits(self) -> Mapping[str, nn.Module]:
        """The sub-networks that can be deployed, by head name."""
        return {"main": self.deployed()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser: one group, unless the paper treats some parts differently."""
        return [{"params": list(self.parameters())}]

    def __call__(self, batch: Batch, progress: Progress) -> StepOutput:
        output: StepOutput = super().__call__(self._prepared(batch, progress), progress)
        if self._first_batch:
            self._check_heads(output)
        self._first_batch = False
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _prepared(self, batch: Batch, progress: Progress) -> Batch:
        """Check and count a batch, and prepare what its step will read. Never a part of a compiled graph."""
        if self._first_batch:
            self._check_memories()  # again, for a loop without hooks
        trains = self.training and torch.is_grad_enabled()
        if trains and self._loop.begin_unannounced(progress.epoch, self.memories.values()):
            self._checks.check_recorded()  # a loop without hooks has no other moment
            self._checks.clear()
        batch = self._checks(batch)
        if self.training and len(batch.images) == 1:
            check_normalised_values(self, batch.images)
        if self.needs.teacher:
            self.teacher.match(batch.images)
        if trains:
            self._loop.count_batch(batch, self.memories.values())
        memories = self.memories.values()
        if self.needs.sample_index and not (memories and all(memory.checks_indices for memory in memories)):
            batch = self._checks.check_indices(batch)
        if batch.indices is not None:
            for memory in memories:
                memory.fetch(batch.indices, batch.host_indices)
        if self.supervision is not None:
            self.supervision.prepare(batch, progress)
        self.prepare_step(batch, progress)
        return batch

    @property
    def _written_each_step(self) -> Collection[Memory]:
        return () if self.supervision is None else self.supervision.memories.values()

    def _check_memories(self) -> None:
        """Refuse a memory that is not in `memories`, has replaced the supervision's, or has a wrong name.

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
                    f"{own}.memories[{name!r}] is no longer the memory of its supervision, "
                    f"{type(self.supervision).__name__}; add yours under another name"
                )
        known = {*map(id, self.memories.values())}
        for module in self.modules():
            for attribute, value in vars(module).items():
                if isinstance(value, Memory) and id(value) not in known:
                    raise UserError(
                        f"{type(module).__name__}.{attribute} is a memory, but not in self.memories, so it would be in "
                        f"no checkpoint; add it there, as self.memories[name], in the __init__ of {own}"
                    )

    def _check_heads(self, output: StepOutput) -> None:
        """Refuse a step's output that lacks the logits of a head.

        Raises: UserError: naming it.
        """
        own = type(self).__name__
        if "main" not in output.logits:
            raise UserError(f"{own} must give logits of its deployed head under the name 'main'")
        for head in () if self.supervision is None else self.supervision.heads:
            if head not in output.logits:
                raise UserError(
                    f"{own} names the head {head!r} in supervise, so its StepOutput.logits must have it; they have: "
                    f"{', '.join(output.logits)}"
                )

    def _discard(self) -> None:
        for memory in self.memories.values():
            memory.discard()
