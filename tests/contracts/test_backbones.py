"""What holds for every backbone: ours and a family of timm each."""

import pytest
import torch

import selfkd
from selfkd.backbones import BACKBONES, network_factory

# One small member of each family; the size is what the network takes at least.
FAMILIES = {
    "resnet18": 64,
    "seresnet18": 64,
    "resnext26ts": 64,
    "vgg11_bn": 32,
    "mobilenetv2_050": 64,
    "mobilenetv3_small_050": 64,
    "efficientnet_b0": 64,
    "convnext_atto": 64,
    "regnetx_002": 64,
    "densenet121": 64,
    "repvgg_a0": 64,
    "ghostnet_050": 64,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "edgenext_xx_small": 64,
    "hrnet_w18_small": 64,
    "mobilenetv1_100": 64,
    "poolformer_s12": 64,
    "mixer_s32_224": 224,
}
OURS = dict.fromkeys(BACKBONES, 32)


def size_of(name):
    return {**FAMILIES, **OURS}[name]


def options_of(name):
    return {"width": 8} if name in OURS else {}


def built(name):
    return selfkd.create_backbone(name, 7, input_size=size_of(name), **options_of(name))


@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_features_and_logits_come_out_and_the_network_is_untouched(name):
    torch.manual_seed(0)
    network = network_factory(name)(7, **options_of(name)).eval()
    keys = list(network.state_dict())
    images = torch.randn(2, 3, size_of(name), size_of(name))
    with torch.no_grad():
        logits = network(images)
        staged = selfkd.stage(network, input_size=size_of(name))
        features = staged(images)
    assert torch.equal(features.logits, logits)
    assert staged.network is network
    assert list(network.state_dict()) == keys
    assert len(features.stages) == 4
    assert tuple(tuple(stage.shape[1:]) for stage in features.stages) == staged.stage_shapes
    assert tuple(features.final.shape[1:]) == staged.final_shape
    assert features.pooled.shape == (2, staged.num_features)
    assert features.logits.shape == (2, staged.num_classes) == (2, 7)
    heights = [height for _, height, _ in staged.stage_shapes]
    assert heights == sorted(heights, reverse=True), "shallow to deep"
    if "vit" not in name:  # a class token is no average of the map
        assert torch.allclose(features.final.mean((2, 3)), features.pooled, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_dtskd_trains_on_it(name):
    torch.manual_seed(0)
    staged = built(name)
    method = selfkd.create_method("dtskd", staged, selfkd.DatasetInfo(4, 7))
    batch = selfkd.Batch(torch.randn(2, *staged.input_size), torch.tensor([1, 3]), torch.tensor([0, 2]))
    output = method(batch, selfkd.Progress(0, 2))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    first = next(staged.network.parameters())
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


@pytest.mark.parametrize("name", [*FAMILIES, *OURS])
def test_loth_trains_on_it(name):
    torch.manual_seed(0)
    staged = built(name)
    method = selfkd.create_method("loth", staged, selfkd.DatasetInfo(4, 7), block="gbn")
    output = method(selfkd.Batch(torch.randn(2, *staged.input_size), torch.tensor([1, 3])), selfkd.Progress(0, 2))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    first = next(staged.network.parameters())
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()
