"""What holds for every method on a network of each kind, ours and timm's, or why the method refuses it."""

import pytest
import timm
import torch

import own_loop
import seats
import selfkd
from selfkd.errors import BackboneError
from selfkd.export.network_files import load_network, save_network
from selfkd.methods import METHODS

pytestmark = pytest.mark.slow

CLASSES = 5
OURS = ("resnet18_cifar", "vgg11_cifar", "mobilenetv1_cifar", "mobilenetv2_cifar")
# The side of its images, and options that make it small.
TIMM = {
    "resnet10t": (64, {}),
    "vgg11_bn": (32, {"mlp_ratio": 1 / 64}),
    "mobilenetv2_050": (64, {}),
    "test_vit": (160, {}),
}
# Options that keep branches on networks with many channels small.
SMALL = {"teskd": {"student_width": 16}, "loth": {"block": "gbn"}}
NO_PYRAMID = (r"needs each stage to be half the size of the stage before", {"test_vit"})
NO_NEW_STAGES = (r"needs a network that can build its own blocks anew \(Staged.new_stage\); \w+ cannot", set(TIMM))
REFUSED = {"teskd": NO_PYRAMID, **dict.fromkeys(("dks", "one", "okddip", "dcm", "ahbf"), NO_NEW_STAGES)}


def staged(name):
    torch.manual_seed(0)
    if name in OURS:
        return selfkd.create_backbone(name, CLASSES, width=8, input_size=32)
    size, options = TIMM[name]
    return selfkd.stage(timm.create_model(name, num_classes=CLASSES, **options), input_size=size)


def built(method, name):
    return seats.create_method(method, staged(name), selfkd.DatasetInfo(4, CLASSES), **SMALL.get(method, {}))


def train(method, until):
    optimizer = torch.optim.SGD(method.parameter_groups(), 0.02)
    return own_loop.train(method, optimizer, lambda epoch: [seats.batch_for(method)], 3, until)


def fits(method, name):
    return name not in REFUSED.get(method, ("", ()))[1]


PAIRS = [(method, name) for method in METHODS for name in (*OURS, *TIMM)]


@pytest.mark.parametrize(("method_name", "network"), [pair for pair in PAIRS if fits(*pair)])
def test_it_trains_continues_and_is_exported(method_name, network, tmp_path):
    method = built(method_name, network)
    losses = train(method, until=2)
    torch.save(method.training_state(), tmp_path / "state.pt")
    losses += train(method, until=3)
    assert torch.isfinite(torch.tensor(losses)).all()

    continued = built(method_name, network)
    continued.load_training_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert train(continued, until=3) == losses[2:]
    for key, value in method.state_dict().items():
        assert torch.equal(continued.state_dict()[key], value), key

    plain = staged(network).network.eval()
    deployed = method.eval().deployed()
    assert list(deployed.state_dict()) == list(plain.state_dict())
    save_network(deployed, tmp_path / "network.safetensors", {})
    load_network(plain, tmp_path / "network.safetensors")
    images = seats.batch_for(method).images
    with torch.no_grad():
        assert torch.equal(plain(images), method.predict(images)["main"])


@pytest.mark.parametrize(("method_name", "network"), [pair for pair in PAIRS if not fits(*pair)])
def test_it_is_refused_with_the_reason(method_name, network):
    reason, _ = REFUSED[method_name]
    with pytest.raises(BackboneError, match=rf"{reason}.*\. Methods that work on it: plain, "):
        built(method_name, network)
