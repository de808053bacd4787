"""What runs in which precision when a run is trained in mixed precision."""

import torch
from safetensors.torch import load_file

from selfkd.evaluation.metrics import HeadMetrics
from selfkd.recipes.reader import resolve
from selfkd.runs.train import run
from selfkd.training.step_meter import StepMeter


def test_a_run_trains_in_bfloat16_and_is_evaluated_in_float32(tmp_path, monkeypatch):
    seen = {"train": set(), "loss": set(), "evaluate": set()}
    update, count = StepMeter.update, HeadMetrics.update

    def training(meter, output, *counted):
        seen["train"].update(logits.dtype for logits in output.logits.values())
        seen["loss"].update(value.dtype for value in (output.loss, *output.terms.values()))
        update(meter, output, *counted)

    def evaluating(metrics, logits, labels):
        seen["evaluate"].update(each.dtype for each in logits.values())
        count(metrics, logits, labels)

    monkeypatch.setattr(StepMeter, "update", training)
    monkeypatch.setattr(HeadMetrics, "update", evaluating)
    options = {"backbone.width": 4, "trainer.epochs": 2, "trainer.evaluate_every": 1, "trainer.precision": "bf16-mixed"}
    folder = run(resolve("demo/digits/resnet18/dtskd", options), tmp_path, show_progress=False)
    assert seen == {"train": {torch.bfloat16}, "loss": {torch.float32}, "evaluate": {torch.float32}}
    assert {tensor.dtype for tensor in load_file(folder.network_file).values()} == {torch.float32, torch.int64}
