"""The real command on all of the real CIFAR-100."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["plain", "ps_kd", "dtskd"])
def test_one_epoch_learns(selfkd, cifar100_root, method):
    recipe = f"dtskd/cifar100/resnet18/{method}"
    overrides = (f"data.root={cifar100_root}", "backbone.width=8", "trainer.epochs=1")
    done = selfkd("train", recipe, *overrides, "--no-progress", "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)
    scores = run["last"]["scores"]
    assert scores["train"]["main"]["top1"]["n"] == 50_000
    assert scores["test"]["main"]["top1"]["n"] == 10_000
    assert scores["test"]["main"]["top1"]["value"] > 4, "four times chance"
