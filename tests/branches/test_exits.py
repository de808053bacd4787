import torch
from torch import nn

from selfkd.branches import DeployedExit, Exit


def small_exit():
    return Exit(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), nn.Linear(6, 5))


def test_an_exit_classifies_the_average_of_its_feature():
    module = small_exit().eval()
    feature, logits = module(torch.randn(2, 4, 8, 8))
    averages = [[feature[sample, channel].mean().item() for channel in range(6)] for sample in range(2)]
    expected = torch.tensor(averages) @ module.classifier.weight.T + module.classifier.bias
    assert torch.allclose(logits, expected, atol=1e-6)


def test_a_deployed_exit_learns_with_the_original_but_has_a_mode_of_its_own():
    own = small_exit()
    deployed = DeployedExit(nn.Identity(), own).eval()
    assert own.training
    assert all(part.training for part in own.modules())
    images = torch.randn(8, 4, 8, 8)
    before = deployed(images)
    own(images)  # moves the running statistics
    with torch.no_grad():
        own.classifier.bias.add_(1)
    assert not torch.allclose(deployed(images), before)
    assert torch.equal(deployed(images), own.eval()(images).logits)
    assert {*map(id, deployed.parameters())} == {*map(id, own.parameters())}
