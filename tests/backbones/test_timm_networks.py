import pytest
import timm

from selfkd.backbones import network_factory
from selfkd.errors import BackboneError


def test_weights_that_cannot_be_fetched_are_one_error_with_what_to_do(monkeypatch):
    def without_network(*arguments, **options):
        raise FileNotFoundError("cannot find the requested files in the local cache.\nPlease check your connection")

    monkeypatch.setattr(timm, "create_model", without_network)
    said = (
        r"^the published weights of timm network 'resnet18' cannot be fetched from the Hugging Face Hub \(cannot find "
        r"the requested files in the local cache\.\); check the .* backbone.pretrained=false backbone.weights=FILE$"
    )
    with pytest.raises(BackboneError, match=said):
        network_factory("resnet18")(7, pretrained=True)
