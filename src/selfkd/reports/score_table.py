"""The scores of one evaluation as a table."""

from __future__ import annotations

from tabulate import tabulate

from selfkd.evaluation.scores import Scores, digits
from selfkd.terminal import printable

__all__ = ["score_table"]


def score_table(scores: Scores) -> str:
    """Write scores as a Markdown table: one line for each head, one column for each metric."""
    cells = [
        {"head": printable(head)}
        | {
            printable(f"{name} ({score['unit']})" if score["unit"] else name): digits(score["value"], score["unit"])
            for name, score in metrics.items()
        }
        | {"images": str(next(iter(metrics.values()))["n"])}
        for head, metrics in scores.items()
    ]
    return tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
