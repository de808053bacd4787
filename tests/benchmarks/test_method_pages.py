import pytest

from benchmark_files import load_benchmark
from selfkd.methods.listing import PublishedGain
from selfkd.reports.published import figures_of

PAGES = load_benchmark("method_pages")
COMMAND = "run: python benchmarks/method_pages.py"


def test_the_list_of_methods_is_made_of_counts_signatures_and_recipes():
    assert PAGES.OVERVIEW_FILE.read_text(encoding="utf-8") == PAGES.overview_text(), COMMAND


@pytest.mark.parametrize("page", PAGES.pages(), ids=lambda page: page.relative_to(PAGES.ROOT).as_posix())
def test_the_written_sections_of_a_page_are_as_they_would_be_written(page):
    assert page.read_text(encoding="utf-8") == PAGES.rendered(page), COMMAND


def test_gains_are_those_over_plain_training_of_the_same_protocol():
    gains = PAGES.overview()["kd"]["published"]
    assert [(gain["source"], gain["top1"], gain["plain"]) for gain in gains] == [
        ("DTSKD, Table 5", 78.99, 76.27),
        ("TESKD, Table 3", 77.12, 74.40),
    ]


def test_a_gain_of_other_heads_than_main_says_so():
    (gain,) = PAGES.list_methods()["one"].published
    assert PAGES.gains_in_words([gain]) == "+2.61 (TESKD, mean of main, branch1, branch2)"


def test_two_gains_of_one_paper_are_told_apart_by_their_tables():
    first = PublishedGain("dtskd/cifar100/resnet18/kd", "DTSKD, Table 5", "main", 78.99, 76.27)
    second = PublishedGain("dtskd/cifar100/resnet18/kd-hot", "DTSKD, Table 6", "main", 79.27, 76.27)
    assert PAGES.gains_in_words([first, second]) == "+2.72 (DTSKD, Table 5), +3.00 (DTSKD, Table 6)"


@pytest.mark.parametrize("source", ["DTSKD Table 5", ", Table 5"])
def test_a_source_without_paper_or_place_is_refused(source):
    gain = PublishedGain("dtskd/cifar100/resnet18/kd", source, "main", 78.99, 76.27)
    with pytest.raises(ValueError, match=f"source '{source}' must be '<paper>, <place>'"):
        PAGES.gains_in_words([gain])


def test_a_data_set_without_a_place_of_its_own_comes_last_under_its_name():
    grids = ["dtskd/cub200", "teskd/imagenet", "loth/cifar100", "dtskd/cars", "dtskd/cifar100"]
    assert sorted(grids, key=PAGES._place) == [
        "dtskd/cifar100",
        "loth/cifar100",
        "teskd/imagenet",
        "dtskd/cars",
        "dtskd/cub200",
    ]
    gain = PublishedGain("dtskd/cub200/resnet18/kd", "DTSKD, Table 5", "main", 61.0, 60.0)
    assert PAGES.gains_in_words([gain]) == "+1.00 (DTSKD, cub200)"


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_figures_of_the_deployed_head_have_a_column_for_each_network_and_plain_training_beside_them():
    figures = [figures_of(f"teskd/cifar100/{network}/teskd")[0] for network in ("resnet18", "vgg16")]
    assert rows(PAGES.grid_tables("teskd/cifar100", figures))[2:] == [
        ["TESKD, Table 1", "plain", "74.40 ± 0.08", "72.70 ± 0.24"],
        ["TESKD, Table 1", "teskd", "79.14 ± 0.11", "74.90 ± 0.17"],
    ]


def test_figures_of_several_heads_have_a_column_for_each_head():
    header, _, row = rows(PAGES.grid_tables("loth/cifar100", figures_of("loth/cifar100/resnet18/loth")))
    assert header == ["", "network", "recipe", "plain", "main", "branch1", "branch2", "branch3", "fusion"]
    assert row == ["LOTH, Table 1", "resnet18", "loth", "77.65", "81.24", "78.47", "79.53", "80.90", "82.08"]


def test_heads_of_another_table_than_the_deployed_one_stand_apart():
    text = PAGES.grid_tables("dtskd/cifar100", figures_of("dtskd/cifar100/resnet18/dtskd-structure_only"))
    assert ["DTSKD, Table 6", "dtskd-structure_only", "79.08"] in rows(text)
    assert ["DTSKD, Table 12", "resnet18", "dtskd-structure_only", "76.27", "79.12", "79.17", "79.22"] in rows(text)


def test_options_are_written_as_the_command_takes_them():
    options = PAGES.options_section("loth")
    assert "- `method.alpha=1.15`: base of the teacher's weight in each exit" in options
    assert "null takes the channels of stages 2 and 3" in " ".join(options.split())
    assert "section [`supervision`](../recipes.md#supervision) replaces the labels" in options
    assert "takes no [`supervision`](../recipes.md#supervision): it is plain with" in PAGES.options_section("ps_kd")


def test_a_page_without_a_place_for_a_section_is_named(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("no place")
    monkeypatch.setattr(PAGES, "pages", lambda: {page: {"options": str}})
    with pytest.raises(ValueError, match=r"page.md has no lines '<!-- options: written by .*' and '<!-- end -->'"):
        PAGES.rendered(page)
    mark = PAGES.MARK.format("options")
    page.write_text(f"before\n{mark}old\n<!-- end -->\nafter\n")
    monkeypatch.setattr(PAGES, "pages", lambda: {page: {"options": lambda: "new"}})
    assert PAGES.rendered(page) == f"before\n{mark}\nnew\n\n<!-- end -->\nafter\n"
