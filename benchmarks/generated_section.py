"""A part of a documentation page that a benchmark writes, between two comments; the rest is written by hand."""

from __future__ import annotations

__all__ = ["section_of", "with_section"]


def section_of(page: str, name: str) -> str:
    """What stands in the section of this name.

    Raises: ValueError: if the page has no such section.
    """
    return _parts(page, name)[1]


def with_section(page: str, name: str, text: str) -> str:
    """The page with new text in the section of this name.

    Raises: ValueError: if the page has no such section.
    """
    before, _, after = _parts(page, name)
    return before + text + after


def _parts(page: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found_begin, rest = page.partition(begin)
    text, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page has no lines '{begin.strip()}' and '{end}'")
    return before + begin, text, end + after
