"""Records for tests: of the form that the queue writes, with made-up numbers."""

from __future__ import annotations

from typing import Any

from selfkd.recipes.reader import resolve


def made_up_record(records: Any, name: str, seed: int = 0, last: float = 70.0, best: float = 71.0) -> dict[str, Any]:
    """A faultless record of a packaged recipe.

    Args:
        records: the module run_records.
        name: of the recipe.
        seed: of the run.
        last: accuracy of every head after the last epoch.
        best: accuracy of every head at main's best epoch; of fusion at its own it is 1 more, one epoch before.
    """
    recipe = resolve(name, {"seed": seed})
    heads = ["main", *recipe.published.get("other_heads", {})]
    total = recipe.options["trainer"]["epochs"]

    def row(epoch: int) -> dict[str, float]:
        values = {head: {total - 1: best}.get(epoch, last) for head in heads}
        if "fusion" in values:
            values["fusion"] = {total - 2: best + 1}.get(epoch, values["fusion"])
        logged = {f"test/top1/{head}": value for head, value in values.items()}
        return {"epoch": float(epoch), "train/loss": 1.0, "seconds/train": 1.0, "seconds/evaluate": 0.1, **logged}

    def scores(epoch: int, value: float) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "scores": {"test": {head: {"top1": {"value": value, "unit": "%", "n": 10_000}} for head in heads}},
        }

    return {
        "experiment": records.experiment_of(recipe),
        "scores": {
            "recipe": name,
            "method": recipe.parts["method"],
            "seed": seed,
            "selection": {"rule": "best-on-test", "after_epoch": recipe.options["trainer"]["best_after_epoch"]},
            "last": scores(total, last),
            "best": scores(total - 1, best),
            "splits": {split: {"images": images, "origin": "made up"} for split, images in records.WHOLE.items()},
            "seconds": {"train_epoch_median": 1.0, "train_total": float(total)},
        },
        "epochs": [row(epoch) for epoch in range(1, total + 1)],
        "environment": {"commit": "0" * 40, "device": "made up", "packages": {"torch": "0.0"}},
        "data": {"fingerprint": "made up"},
        "source": records.source_digest(),
        "pace": None,
        "compiled": False,
        "usage": None,
    }
