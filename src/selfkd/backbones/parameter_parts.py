"""Which parameters of a staged network compute its stages, and which are its classifier.

The graph that autograd records says it, so that it works for every network that can be staged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from selfkd.backbones.staged import Staged
from selfkd.eval_mode import eval_mode

__all__ = ["ParameterParts", "parameter_parts"]


@dataclass(frozen=True)
class ParameterParts:
    """Names of parameters of `staged.network`.

    Args:
        up_to_stage: for each of the four stages, the parameters that its map depends on, shallow to deep.
        classifier: those of the last layer, whose size is the number of classes.
    """

    up_to_stage: tuple[frozenset[str], ...]
    classifier: frozenset[str]


def parameter_parts(staged: Staged) -> ParameterParts:
    """Find the parameters of the stages and of the classifier, with one forward pass of zeros in eval mode.

    The classifier is what the logits depend on, the pooled vector does not, and has an output for each class.
    Networks with a further layer between the pooled vector and the classifier keep it in neither part.
    """
    network = staged.network
    named = dict(network.named_parameters(remove_duplicate=False))
    trains = {parameter: parameter.requires_grad for parameter in network.parameters()}
    example = next(iter(trains), None)
    images = torch.zeros(1, *staged.input_size)
    if example is not None:
        images = images.to(example.device, example.dtype)
    try:
        for parameter in trains:
            parameter.requires_grad_(parameter.is_floating_point())
        with eval_mode(network), torch.enable_grad():
            features = staged(images)
        stages = [_behind([stage_map]) for stage_map in features.stages]
        pooled, logits = _behind([features.pooled]), _behind([features.logits])
    finally:
        for parameter, train in trains.items():
            parameter.requires_grad_(train)
    after = {name: parameter for name, parameter in named.items() if id(parameter) in logits - pooled}
    classifier = {name for name, parameter in after.items() if parameter.shape[:1] == (staged.num_classes,)}
    return ParameterParts(
        tuple(frozenset(name for name, parameter in named.items() if id(parameter) in used) for used in stages),
        frozenset(classifier or after),
    )


def _behind(outputs: Iterable[Tensor]) -> set[int]:
    """The identities of all parameters that tensors were computed from."""
    found: set[int] = set()
    seen = set()
    waiting = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        parameter = getattr(node, "variable", None)  # of the nodes at which gradients of leaves are added up
        if parameter is not None:
            found.add(id(parameter))
        waiting += [before for before, _ in node.next_functions]
    return found
