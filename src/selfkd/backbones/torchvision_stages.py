"""The modules of torchvision's classification networks that are their four stages. Nothing here imports torch.

Of more than four stages the deepest four are used. A stage has all blocks of one resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["TIMM_NAMES", "TORCHVISION_STAGES", "StageModules"]


@dataclass(frozen=True)
class StageModules:
    """Dotted names of the modules whose outputs are the stage maps.

    Args:
        stages: the stages' modules, from shallow to deep.
        final: the module whose output the classifier pools; None for the last stage.
        channels_last: whether the outputs are `[B, H, W, C]`.
    """

    stages: tuple[str, ...]
    final: str | None = None
    channels_last: bool = False


def _same_stages(names: str, stages: StageModules) -> dict[str, StageModules]:
    return dict.fromkeys(names.split(), stages)


def _features(stages: Iterable[int], final: int | None = None, channels_last: bool = False) -> StageModules:
    """Stages that are children of the network's `features`."""
    return StageModules(
        tuple(f"features.{index}" for index in stages), None if final is None else f"features.{final}", channels_last
    )


_RESNETS = (
    "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d "
    "wide_resnet50_2 wide_resnet101_2"
)
_REGNETS = " ".join(
    f"regnet_{kind}_{size}"
    for kind, sizes in {
        "x": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf",
        "y": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf 128gf",
    }.items()
    for size in sizes.split()
)
_SWINS = StageModules(("features.1", "features.3", "features.5", "features.7"), "norm", channels_last=True)

TORCHVISION_STAGES: Mapping[str, StageModules] = {
    "alexnet": _features((1, 4, 11, 12)),
    **_same_stages("convnext_tiny convnext_small convnext_base convnext_large", _features((1, 3, 5, 7))),
    **_same_stages(
        "densenet121 densenet161 densenet169 densenet201",
        # torchvision applies the last ReLU in place to the output of norm5, which so becomes the map that is pooled.
        StageModules(tuple(f"features.denseblock{index}" for index in range(1, 5)), "features.norm5"),
    ),
    **_same_stages(" ".join(f"efficientnet_b{size}" for size in range(8)), _features((2, 3, 5, 7), 8)),
    "efficientnet_v2_s": _features((2, 3, 5, 6), 7),
    **_same_stages("efficientnet_v2_m efficientnet_v2_l", _features((2, 3, 5, 7), 8)),
    "googlenet": StageModules(("conv3", "inception3b", "inception4e", "inception5b")),
    "inception_v3": StageModules(("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c")),
    "maxvit_t": StageModules(tuple(f"blocks.{index}" for index in range(4))),
    **_same_stages(
        "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
        StageModules(("layers.8", "layers.9", "layers.11", "layers.13"), "layers.16"),
    ),
    "mobilenet_v2": _features((3, 6, 13, 17), 18),
    "mobilenet_v3_large": _features((3, 6, 12, 15), 16),
    "mobilenet_v3_small": _features((1, 3, 8, 11), 12),
    **_same_stages(_REGNETS, StageModules(tuple(f"trunk_output.block{index}" for index in range(1, 5)))),
    **_same_stages(_RESNETS, StageModules(tuple(f"layer{index}" for index in range(1, 5)))),
    **_same_stages(
        "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
        StageModules(("maxpool", "stage2", "stage3", "stage4"), "conv5"),
    ),
    "squeezenet1_0": _features((1, 5, 10, 12)),
    "squeezenet1_1": _features((1, 4, 7, 12)),
    **_same_stages("swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b", _SWINS),
    # The maps before the last three poolings, and the map after the last.
    "vgg11": _features((9, 14, 19, 20)),
    "vgg11_bn": _features((13, 20, 27, 28)),
    "vgg13": _features((13, 18, 23, 24)),
    "vgg13_bn": _features((19, 26, 33, 34)),
    "vgg16": _features((15, 22, 29, 30)),
    "vgg16_bn": _features((22, 32, 42, 43)),
    "vgg19": _features((17, 26, 35, 36)),
    "vgg19_bn": _features((25, 38, 51, 52)),
}

TIMM_NAMES: Mapping[str, str] = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
}
"""torchvision's networks that give no stage maps, and the timm names of the same networks, which do."""
