"""The parts of a run, built from its recipe."""

import torch

from selfkd.runs.build import Experiment
from selfkd.training.module import MethodModule
from selfkd.training.options import TrainerOptions


def test_methods_of_one_seed_start_from_the_same_network_and_data(short):
    plain, dtskd = (Experiment.build(short(method, seed=3)) for method in ("plain", "dtskd"))
    for ours, theirs in zip(plain.method.deployed().parameters(), dtskd.method.deployed().parameters(), strict=True):
        assert torch.equal(ours, theirs)
    first, second = (next(iter(e.training_parts().training_loader.epoch(1))) for e in (plain, dtskd))
    assert torch.equal(first.images, second.images)
    assert first.indices is None
    assert second.indices is not None


def test_the_history_follows_the_method_to_its_device(short):
    """Lightning loads a checkpoint while the method is still on the CPU."""
    experiment = Experiment.build(short())
    history = experiment.method.memories["history"]
    history.write(torch.arange(2), dict.fromkeys(history.heads, torch.full((2, 10), 0.1)))
    history.commit()
    module = MethodModule(experiment.method, experiment.training_parts(), TrainerOptions(epochs=1))
    module.to("meta").begin_epoch()
    assert history.state_dict()["probabilities"].device.type == "meta"


def test_the_log_says_that_options_of_a_history_have_no_effect_without_one(short, tmp_path, caplog):
    caplog.set_level("INFO")
    for overrides, said in (({}, False), ({"history.storage": "memmap"}, False), ({"history.dtype": "float16"}, True)):
        caplog.clear()
        Experiment.build(short("plain", **overrides)).configure_history(tmp_path)
        assert ("history.top_k and history.dtype have no effect: Plain keeps no history" in caplog.text) is said
