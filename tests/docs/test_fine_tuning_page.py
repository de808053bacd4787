"""docs/fine-tuning.md: its commands resolve, and it names every option."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from selfkd.backbones.network_options import NetworkOptions
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.runs.starting_weights import LEAST_SHARE
from selfkd.training.learning_rates import LearningRates

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    selfkd train (\S.*)$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_resolves(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({}, tmp_path / "weights.pth")
    name, *overrides = shlex.split(command)
    given = split_overrides([each.replace("=FILE", "=weights.pth") for each in overrides])
    resolve("demo/digits/resnet18/dtskd" if name == "RECIPE" else name, given)


def test_every_option_is_named():
    keys = {f"backbone.{field.name}" for field in fields(NetworkOptions)}
    keys |= {f"optimizer.{field.name}" for field in fields(LearningRates)}
    assert {*keys, "trainer.freeze", "trainer.freeze_epochs"} <= set(re.findall(r"`([a-z]+\.[a-z_]+)[`=]", PAGE))


def test_the_rule_for_a_file_of_another_network_is_that_of_the_code():
    words, least = " ".join(PAGE.split()), f"less than {LEAST_SHARE * 100:.0f} % of the"
    assert f"{least} network's" in words
    assert f"{least} file's" in words
