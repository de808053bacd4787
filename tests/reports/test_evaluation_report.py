import dataclasses

import torch

from selfkd.evaluation.evaluation import (
    Evaluation,
    agreement,
    class_accuracies,
    confusion_matrix,
    measure_split,
    scale_temperatures,
)
from selfkd.evaluation.predictions import Predictions
from selfkd.reports.evaluation_report import evaluation_report


def predictions(classes, heads=("main", "branch1"), images=60):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    logits = {head: 2 * torch.randn(images, classes, generator=generator) for head in heads}
    for each in logits.values():
        each[torch.arange(images), labels] += 2
    return Predictions(logits, labels, torch.arange(images))


def evaluated(made, classes, **changes):
    measured = measure_split([made], classes)
    evaluation = Evaluation(
        run="runs/one/seed-0",
        split="test",
        data=None,
        data_kind=None,
        checkpoint="last",
        epoch=7,
        class_names=tuple(f"class {label}" for label in range(classes)),
        images_per_class=tuple(made.labels.bincount(minlength=classes).tolist()),
        scores=measured.scores,
        ensemble=measured.ensemble,
        class_accuracies={head: class_accuracies(each, classes) for head, each in measured.outcomes.items()},
        agreement=agreement(measured.outcomes),
        confusion=confusion_matrix(measured.outcomes["main"], classes),
    )
    return dataclasses.replace(evaluation, **changes)


def cells(text, head):
    """The cells of the first line that begins with this one."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {head} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_few_classes_are_shown_whole():
    evaluation = evaluated(predictions(6), 6)
    text = evaluation_report(evaluation)
    assert text.startswith("runs/one/seed-0, weights after epoch 7 (last): 60 images of the test split\n")
    scores = evaluation.scores["main"]
    assert cells(text, "main")[1] == f"{scores['top1']['value']:.2f}"
    assert cells(text, "main")[-1] == f"{scores['aurc']['value']:.4g}"
    low, high = scores["top1"]["interval"]
    assert f"| {low:.2f} to {high:.2f}" in text
    assert "ensemble: the mean of the probabilities of main, branch1\n" in text
    counts = evaluation.confusion[2]
    assert cells(text, "class 2") == ["class 2", *map(str, counts), f"{10 * counts[2]:.2f}"]
    assert f"| branch1  | {evaluation.agreement['branch1']['main']:.2f}" in text
    assert "Temperature" not in text
    assert "Classes without images" not in text


def test_of_many_classes_the_worst_are_shown():
    evaluation = evaluated(predictions(20), 20)
    text = evaluation_report(evaluation)
    known = sorted(zip(evaluation.class_accuracies["main"], evaluation.class_names, strict=True), key=lambda e: e[0])
    assert text.count(" of 3 images\n") + text.endswith(" of 3 images") == 10
    accuracies = [accuracy for accuracy, _ in known]
    ties = accuracies[5:].count(accuracies[4])
    assert (f"\n  other classes with the same accuracy as the last: {ties}\n" in text) == (ties > 0)
    assert f"  {known[0][1]}: {known[0][0]:.2f} % of 3 images" in text
    counts = {
        (label, predicted): count
        for label, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if label != predicted
    }
    (label, predicted), count = max(counts.items(), key=lambda entry: entry[1])
    assert f"  class {label} predicted as class {predicted}: {count} of 3 images" in text


def test_equal_classes_and_confusions_that_are_not_shown_are_counted():
    made = predictions(20, heads=("main",), images=20)
    made.logits["main"][torch.arange(20), (made.labels + 1) % 20] += 100
    text = evaluation_report(evaluated(made, 20))
    assert "class 4: 0.00 % of 1 image\n  other classes with the same accuracy as the last: 15\n" in text
    assert text.endswith("as class 5: 1 of 1 image\n  other confusions as frequent as the last: 15")


def test_a_network_without_mistakes_and_a_single_head():
    made = predictions(20, heads=("main",))
    made.logits["main"][torch.arange(60), made.labels] += 100
    text = evaluation_report(evaluated(made, 20))
    assert "class 4: 100.00 % of 3 images\n  other classes with the same accuracy as the last: 15\n" in text
    assert text.endswith("Most frequent confusions of main:\n  none: every prediction is right")
    assert "two heads" not in text
    assert "ensemble" not in text


def test_a_single_image():
    text = evaluation_report(evaluated(predictions(3, images=1), 3))
    assert ": 1 image of the test split\n" in text


def test_another_folder_and_its_absent_classes():
    made = predictions(3)
    absent = evaluated(dataclasses.replace(made, labels=torch.zeros(60, dtype=torch.int64)), 3)
    text = evaluation_report(dataclasses.replace(absent, split=None, data="photos\x1b[2J", data_kind="folder"))
    assert "60 images of the folder photos\\x1b[2J\n" in text, "a name cannot move the cursor"
    assert "Classes without images (2 of 3): class 1, class 2" in text
    assert cells(text, "class 1")[-1] == ""


def test_names_of_a_downloaded_run_cannot_forge_a_line():
    made = predictions(3, heads=("main", "branch1\nselfkd: all is well"))
    names = ("0", "1\n\x1b[2J", "2")
    text = evaluation_report(evaluated(made, 3, class_names=names, run="runs\nselfkd: done"))
    assert text.startswith(r"runs\nselfkd: done, weights")
    assert r"| branch1\nselfkd: all is well |" in text
    assert r"| 1\n\x1b[2J |" in text


def test_a_score_without_an_interval_leaves_its_cell_empty():
    evaluation = evaluated(predictions(3, heads=("main",)), 3)
    scores = {"main": {**evaluation.scores["main"], "ratio": {"value": 0.00123, "unit": "nat", "n": 60}}}
    text = evaluation_report(dataclasses.replace(evaluation, scores=scores))
    assert "| ratio (nat) " in text
    assert cells(text, "main")[-1] == "0.00123"
    assert cells(text.split("95 % intervals")[1], "main")[-1] == ""


def test_scores_before_and_after_stand_side_by_side():
    made = predictions(6)
    scaling = scale_temperatures(made.take(torch.arange(30)), made.take(torch.arange(30, 60)), "these", "those")
    text = evaluation_report(evaluated(made, 6, temperature=scaling))
    assert "Temperature fitted on these (30 images); before → after on those (30 images):" in text
    before, after = (scores["main"]["nll"]["value"] for scores in (scaling.before, scaling.after))
    assert f"| main     | {scaling.temperatures['main']:.4g}" in text
    assert f"{before:.4g} → {after:.4g}" in text
