"""The findings of the doctor, and its report for users and for programs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from selfkd.terminal import printable

__all__ = ["Finding", "Report", "Severity"]

Severity = Literal["error", "warning", "note"]

_TITLES: Mapping[Severity, str] = {
    "error": "errors: training would fail",
    "warning": "warnings: training would work, but perhaps not as intended",
    "note": "notes",
}
_SHOWN = 10
_LOGGED = 5
_LONGEST = 300  # characters of a place; all equal images are one place, and there may be thousands


@dataclass(frozen=True)
class Finding:
    """One thing that a check found in a data set.

    Args:
        severity: "error" if training would fail, "warning" if it would work but perhaps not as intended, else "note".
        subject: what was checked, in a word or two.
        message: what was found and what to do.
        where: every file, row or class that the finding is about; empty if it is about the whole data set.
    """

    severity: Severity
    subject: str
    message: str
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"

    def line(self) -> str:
        """The finding in one line, for a log; a long list is cut."""
        more = [f"and {len(self.where) - _LOGGED} more"] if len(self.where) > _LOGGED else []
        places = ", ".join([*map(_cut, self.where[:_LOGGED]), *more])
        return printable(f"{self} ({places})" if places else str(self))


@dataclass(frozen=True)
class Report:
    """All findings about a data set.

    Args:
        layout: what the data set looks like, in words.
        options: the options to train on it, as written on the command line.
        num_classes: K; 0 if unknown.
        splits: number of images, by the data set's own name of the split.
        findings: most severe first.
    """

    layout: str
    options: tuple[str, ...]
    num_classes: int
    splits: Mapping[str, int]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings on which training would fail."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def to_json(self) -> dict[str, Any]:
        """The whole report; nothing is cut."""
        return {**asdict(self), "trainable": not self.errors}

    def text(self) -> str:
        """A page for people: most severe findings first, long lists cut."""
        sizes = ", ".join(f"{count} images in {name}" for name, count in self.splits.items())
        lines = [self.layout, f"{self.num_classes} classes; {sizes}" if sizes else "no image found"]
        for severity, title in _TITLES.items():
            of_this = [finding for finding in self.findings if finding.severity == severity]
            if of_this:
                lines += ["", title]
            for finding in of_this:
                lines.append(f"  {finding}")
                lines += [f"      {_cut(place)}" for place in finding.where[:_SHOWN]]
                if len(finding.where) > _SHOWN:
                    lines.append(f"      and {len(finding.where) - _SHOWN} more (all of them with --json)")
        if not self.errors:
            lines += ["", "No error was found. To train on this data, write a recipe's name for RECIPE, for example"]
            lines.append(
                "photos/resnet18/dtskd for photographs (data.image_size=224); 'selfkd list recipes' shows all:"
            )
            lines.append(f"  selfkd train RECIPE {shlex.join(self.options)}")
        return "\n".join(map(printable, lines))


def _cut(place: str) -> str:
    return place if len(place) <= _LONGEST else f"{place[:_LONGEST]}... (all of it with --json)"
