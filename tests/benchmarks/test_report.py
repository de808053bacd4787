import dataclasses

import pytest

from benchmark_files import load_benchmark

PAGES = [
    "history_scale",
    "loader_paths",
    "loader_speed",
    "method_epochs",
    "soak",
    "step_cost",
    "thread_choice",
]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_in_the_docs_is_made_of_the_results(name):
    report = load_benchmark(name).REPORT
    assert report.name == name
    assert report.rendered() == report.page_file.read_text(), f"run: python benchmarks/{name}.py --page"


@pytest.fixture
def report(tmp_path):
    (tmp_path / "docs").mkdir()
    module = load_benchmark("report")
    return module.Report("speed", "page.md", lambda results: f"{results} images", arguments="ROOT", root=tmp_path)


WRITTEN = "7 images\n\nWritten by `python benchmarks/speed.py ROOT` from `results/speed.json`.\n"


def test_results_are_kept_and_become_a_page(report):
    assert report.read() is None
    report.write(7)
    assert report.read() == 7
    assert report.page_file.read_text() == WRITTEN


def test_a_section_leaves_the_rest_of_its_page(report):
    report = dataclasses.replace(report, is_section=True)
    report.page_file.write_text("before\n<!-- begin speed -->\nold\n<!-- end speed -->\nafter\n")
    report.write(7)
    assert report.page_file.read_text() == f"before\n<!-- begin speed -->\n{WRITTEN}<!-- end speed -->\nafter\n"
    report.page_file.write_text("no place\n")
    with pytest.raises(ValueError, match="has no lines '<!-- begin speed -->' and '<!-- end speed -->'"):
        report.write_page()


def test_page_writes_the_page_alone_and_needs_no_other_argument(report):
    report.write(7)
    report.page_file.unlink()
    parser = report.parser("Measures.")
    parser.add_argument("root")
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["--page"])
    assert report.page_file.read_text() == WRITTEN
