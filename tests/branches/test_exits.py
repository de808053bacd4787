import torch
from torch import nn

import selfkd
from selfkd.branches.exits import DeployedExit, Exit, ExitOutput, StageExits, logits_of_exits


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


def test_every_stage_has_an_exit_of_its_own_shallowest_first():
    channels = (4, 6, 8)
    exits = StageExits((nn.Conv2d(each, 10, 1) for each in channels), 10, 5)
    stages = [torch.randn(2, each, 3, 3) for each in channels]
    outputs = exits(stages)
    assert list(outputs) == ["branch1", "branch2", "branch3"]
    for output, exit_, stage_map in zip(outputs.values(), exits.exits, stages, strict=True):
        assert torch.equal(output.feature, exit_.chain(stage_map))
        assert torch.equal(output.logits, exit_.classifier(output.feature.mean(dim=(2, 3))))


def test_networks_that_end_at_an_exit_give_its_logits():
    backbone = selfkd.create_backbone("resnet18_cifar", 5, width=8, input_size=16).eval()
    shapes = backbone.stage_shapes[:-1]
    exits = StageExits((nn.Conv2d(channels, 10, 1) for channels, _, _ in shapes), 10, 5)
    images = torch.randn(2, 3, 16, 16)
    expected = exits(backbone(images).stages[:-1])
    deployed = exits.deployed(backbone)
    assert list(deployed) == ["main", *expected]
    assert deployed.pop("main") is backbone.network
    assert all(torch.equal(network.eval()(images), expected[head].logits) for head, network in deployed.items())


def test_the_ensemble_is_the_mean_of_all_logits_and_has_no_gradient():
    main, first, second = (torch.tensor([[value, 0.0]], requires_grad=True) for value in (1.0, 2.0, 6.0))
    exits = {"branch1": ExitOutput(first, first), "branch2": ExitOutput(second, second)}
    logits = logits_of_exits(main, exits)
    assert list(logits) == ["main", "branch1", "branch2", "ensemble"]
    assert logits["ensemble"].tolist() == [[3.0, 0.0]]
    assert not logits["ensemble"].requires_grad
    assert logits["main"] is main
    assert logits["branch2"] is second
