"""The results of a benchmark as a JSON file, and the text in docs/ that is made of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from selfkd.atomic_files import written_whole

__all__ = ["Report", "machine", "table"]


@dataclass(frozen=True)
class Report:
    """The results of one benchmark, and the page, or the section of a page, that is made of them alone.

    Args:
        name: name of the benchmark: `benchmarks/<name>.py` measures, `results/<name>.json` holds the results.
        page: file in docs/ that gets the text; None if the results have no text.
        text: a function from the results to the text.
        is_section: whether the text is a section of the page, between two comments that name the benchmark; otherwise
            it is the whole page.
        arguments: the arguments that the command needs.
        root: folder of the repository.
    """

    name: str
    page: str | None = None
    text: Callable[[Any], str] = str
    is_section: bool = False
    arguments: str = ""
    root: Path = Path(__file__).resolve().parent.parent

    @property
    def command(self) -> str:
        """The command line that measures."""
        return f"python benchmarks/{self.name}.py {self.arguments}".rstrip()

    @property
    def results_file(self) -> Path:
        """The file of the results."""
        return self.root / "results" / f"{self.name}.json"

    @property
    def page_file(self) -> Path:
        """The file that gets the text."""
        return self.root / "docs" / str(self.page)

    def read(self) -> Any:
        """The results; None if there are none yet."""
        return json.loads(self.results_file.read_text()) if self.results_file.exists() else None

    def write(self, results: Any) -> None:
        """Write results and page. Each file is written whole or not at all, whenever the process is killed."""
        _write_whole(self.results_file, json.dumps(results, indent=1) + "\n")
        if self.page is not None:
            self.write_page()

    def write_page(self) -> None:
        """Write the page again from the results."""
        _write_whole(self.page_file, self.rendered())

    def rendered(self) -> str:
        """The text of the page file, made of the results.

        Raises: ValueError: if the page has no place for the section.
        """
        text = f"{self.text(self.read()).rstrip()}\n\nWritten by `{self.command}` from `results/{self.name}.json`.\n"
        if not self.is_section:
            return text
        begin, end = f"<!-- begin {self.name} -->\n", f"<!-- end {self.name} -->"
        before, found_begin, rest = self.page_file.read_text().partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise ValueError(f"{self.page_file} has no lines '{begin.strip()}' and '{end}'")
        return f"{before}{begin}{text}{end}{after}"

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """A parser of the benchmark's arguments; `--page` writes the page again and ends the program.

        Args:
            description: the benchmark's docstring.
        """
        report = self

        class WritePage(argparse.Action):
            def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
                report.write_page()
                parser.exit()

        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        if self.page is not None:
            parser.add_argument("--page", action=WritePage, nargs=0, help="only write the page again from the results")
        return parser


def table(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table of texts."""
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def machine(environment: Mapping[str, Any]) -> str:
    """The device, the number of threads and the version of torch, in words."""
    return f"{environment['device']}, {environment['threads']} thread(s), torch {environment['packages']['torch']}"


def _write_whole(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as unfinished:
        unfinished.write_text(text)
