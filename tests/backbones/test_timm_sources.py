import subprocess
import sys

import timm

from selfkd.backbones import timm_sources


def test_the_sources_name_the_networks_that_timm_has():
    assert timm_sources.timm_names() == sorted(timm.list_models())


def test_former_names_and_names_with_pretrained_weights_count():
    script = (
        "import sys; from selfkd.backbones.timm_sources import is_timm_name as known\n"
        "names = ['resnet18', 'resnet18.a1_in1k', 'tv_resnet34', 'tv_resnext50_32x4d', 'resnet18x', '']\n"
        "print([known(name) for name in names], 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, True, True, True, False, False] False"
    assert all(timm.is_model(name) for name in ("resnet18", "resnet18.a1_in1k", "tv_resnet34", "tv_resnext50_32x4d"))


def test_networks_that_somebody_has_entered_count(monkeypatch):
    def entered_here(pretrained=False, **kwargs):
        return timm.create_model("resnet18", **kwargs)

    entered_here.__module__ = __name__
    monkeypatch.setattr(sys.modules[__name__], "__all__", ["entered_here"], raising=False)
    timm.models.register_model(entered_here)
    assert timm_sources.is_timm_name("entered_here")
