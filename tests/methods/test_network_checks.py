import pytest

import selfkd
from selfkd.contract import Needs
from selfkd.errors import BackboneError
from selfkd.methods.network_checks import check_network
from selfkd.methods.plain import Plain


class Growing(Plain):
    needs = Needs(own_blocks=True)


def test_a_method_that_grows_own_blocks_names_the_networks_and_the_methods_that_fit():
    check_network(Growing, selfkd.create_backbone("vgg11_cifar", 7, width=8, input_size=32))
    with pytest.raises(
        BackboneError,
        match=r"Growing needs a network that can build its own blocks anew \(Staged.new_stage\); ResNet cannot; "
        r"those of 'selfkd list backbones' can\. Methods that work on it: plain, .*dml",
    ):
        Growing(selfkd.create_backbone("resnet10t", 7, input_size=64), selfkd.DatasetInfo(4, 7))
