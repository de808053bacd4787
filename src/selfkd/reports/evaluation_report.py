"""An evaluation as text: tables that fit a terminal. The JSON form holds all numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tabulate import tabulate

from selfkd.errors import few
from selfkd.evaluation.ensemble import ENSEMBLE
from selfkd.evaluation.evaluation import Evaluation, TemperatureScaling
from selfkd.evaluation.intervals import SAMPLES
from selfkd.evaluation.scores import Score, Scores, digits
from selfkd.terminal import printable

__all__ = ["evaluation_report", "evaluation_reports"]

_MOST_CLASSES = 12  # of which a whole confusion matrix is shown
_SHOWN = 5  # classes, and confusions, where not all are shown
_UNCHANGED_BY_TEMPERATURE = ("top1", "top5")


def evaluation_report(evaluation: Evaluation) -> str:
    """The evaluation as Markdown tables with a sentence before each."""
    return "\n\n".join("\n".join(part) for part in _parts(evaluation))


def evaluation_reports(evaluations: Sequence[Evaluation]) -> str:
    """The evaluations of one run on several sets of images, each below a heading with the name of its images."""
    return "\n\n".join(f"## {_images_of(each)}\n\n{evaluation_report(each)}" for each in evaluations)


def _images_of(evaluation: Evaluation) -> str:
    """What images were evaluated, in words that follow "the"."""
    if evaluation.data is None:
        return f"{evaluation.split} split"
    return printable(f"{evaluation.data_kind} {evaluation.data}")


def _parts(evaluation: Evaluation) -> Iterator[list[str]]:
    yield [
        f"{printable(evaluation.run)}, weights after epoch {evaluation.epoch} ({evaluation.checkpoint}): "
        f"{_images(evaluation.images)} of the {_images_of(evaluation)}"
    ]
    if evaluation.absent_classes:
        names = list(map(printable, evaluation.absent_classes))
        yield [f"Classes without images ({len(names)} of {len(evaluation.class_names)}): {few(names)}"]
    yield [_table(evaluation.scores, lambda score: digits(score["value"], score["unit"]))]
    if evaluation.ensemble:
        yield [f"{ENSEMBLE}: the mean of the probabilities of {', '.join(map(printable, evaluation.ensemble))}"]
    yield [f"95 % intervals ({SAMPLES} bootstrap samples of the images):", _table(evaluation.scores, _interval)]
    if evaluation.temperature is not None:
        yield from _temperature(evaluation.temperature)
    if len(evaluation.agreement) > 1:
        yield ["Images for which two heads predict the same class (%):", _agreement(evaluation.agreement)]
    if len(evaluation.class_names) <= _MOST_CLASSES:
        yield ["Images of each class (rows) by the prediction of main (columns):", _confusion_matrix(evaluation)]
    else:
        yield ["Classes with the lowest accuracy of main:", *_lowest_classes(evaluation)]
        yield ["Most frequent confusions of main:", *_confusions(evaluation)]


def _table(scores: Scores, cell: Callable[[Score], str]) -> str:
    """One line for each head, one column for each metric."""
    return _markdown(
        [
            {"head": printable(head)} | {_column(name, score): cell(score) for name, score in metrics.items()}
            for head, metrics in scores.items()
        ]
    )


def _column(name: str, score: Score) -> str:
    return printable(f"{name} ({score['unit']})" if score["unit"] else name)


def _interval(score: Score) -> str:
    if "interval" not in score:
        return ""
    return " to ".join(digits(end, score["unit"]) for end in score["interval"])


def _temperature(scaling: TemperatureScaling) -> Iterator[list[str]]:
    rows = []
    for head, before in scaling.before.items():
        after = scaling.after[head]
        rows.append(
            {"head": printable(head), "temperature": f"{scaling.temperatures[head]:.4g}"}
            | {
                _column(name, score): f"{digits(score['value'], score['unit'])} → "
                f"{digits(after[name]['value'], score['unit'])}"
                for name, score in before.items()
                if name not in _UNCHANGED_BY_TEMPERATURE
            }
        )
    fitted_on = f"{scaling.fitted_on} ({_images(scaling.fitted_images)})"
    measured_on = f"{scaling.measured_on} ({_images(scaling.measured_images)})"
    yield [f"Temperature fitted on {fitted_on}; before → after on {measured_on}:", _markdown(rows)]


def _agreement(agreement: Mapping[str, Mapping[str, float]]) -> str:
    return _markdown(
        [
            {"": printable(head)} | {printable(other): digits(share, "%") for other, share in row.items()}
            for head, row in agreement.items()
        ]
    )


def _confusion_matrix(evaluation: Evaluation) -> str:
    names = list(map(printable, evaluation.class_names))
    accuracies = evaluation.class_accuracies["main"]
    rows = [
        [name, *map(str, row), "" if accuracy is None else digits(accuracy, "%")]
        for name, row, accuracy in zip(names, evaluation.confusion, accuracies, strict=True)
    ]
    return tabulate(rows, headers=["class", *names, "accuracy (%)"], tablefmt="github", disable_numparse=True)


def _lowest_classes(evaluation: Evaluation) -> Iterator[str]:
    known = [
        (accuracy, name, images)
        for name, accuracy, images in zip(
            evaluation.class_names, evaluation.class_accuracies["main"], evaluation.images_per_class, strict=True
        )
        if accuracy is not None
    ]
    known.sort(key=lambda entry: entry[0])
    for accuracy, name, images in known[:_SHOWN]:
        yield f"  {printable(name)}: {digits(accuracy, '%')} % of {_images(images)}"
    yield from _equal_to_the_last([accuracy for accuracy, *_ in known], "classes with the same accuracy as the last")


def _confusions(evaluation: Evaluation) -> Iterator[str]:
    wrong = [
        (count, label, predicted)
        for label, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if count and label != predicted
    ]
    wrong.sort(key=lambda entry: -entry[0])
    for count, label, predicted in wrong[:_SHOWN]:
        names = (printable(evaluation.class_names[each]) for each in (label, predicted))
        yield f"  {' predicted as '.join(names)}: {count} of {_images(evaluation.images_per_class[label])}"
    yield from _equal_to_the_last([count for count, *_ in wrong], "confusions as frequent as the last")
    if not wrong:
        yield "  none: every prediction is right"


def _equal_to_the_last(values: Sequence[float], what: str) -> Iterator[str]:
    """A line with the number of values that are not shown only because of their order; no line if there are none."""
    more = values[_SHOWN:].count(values[_SHOWN - 1]) if len(values) > _SHOWN else 0
    if more:
        yield f"  other {what}: {more}"


def _images(number: int) -> str:
    return f"{number} image" if number == 1 else f"{number} images"


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
