"""The default options of the methods that grow structure, against the specification's numbers (sections A1 to A9)."""

import inspect

import pytest

from selfkd.methods import METHODS

DEFAULTS = {
    "byot": {"alpha": 0.1, "temperature": 3, "feature_weight": 1e-6, "exit_form": "narrow"},
    "ecsd": {
        "distillation_weight": 0.3,
        "feature_weight": 0.03,
        "temperature": 3,
        "exit_form": "official",
        "target": "deepest",
    },
    "beed": {"alpha": 1.15, "beta": 1.6, "temperature": 3, "feature_weight": 0.1},
    "dks": {"last_width_factor": 2},  # for VGGs, too, where the specification has 1: see the card
    "dcm": {"last_width_factor": 2},
    "frskd": {"width_factor": 2, "depth": 2, "distillation_weight": 2, "attention_weight": 100, "temperature": 4},
    "one": {"branches": 3, "temperature": 3, "ramp_share": 80 / 300},
    "okddip": {"branches": 4, "temperature": 3, "weight": 1, "ramp_share": 80 / 300},
    "ahbf": {
        "branches": 3,
        "depth_step": 2,
        "fused_weight": 1,
        "peer_weight": 2,
        "weight": 1,
        "temperature": 3,
        "ramp_share": 80 / 200,
    },
}
"""Every option of a method with its default; the temperature of DKS and DCM is 1 and no option."""


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_the_specifications(name):
    options = inspect.signature(METHODS.load(name)).parameters.values()
    defaults = {option.name: option.default for option in options if option.default is not option.empty}
    assert defaults == {**DEFAULTS[name], "supervision": None}
