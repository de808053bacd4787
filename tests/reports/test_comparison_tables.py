import csv
import io
import json
import re
from dataclasses import replace

import pytest

from finished_runs import write_run
from selfkd.recipes.reader import resolve
from selfkd.reports.comparison import Comparison
from selfkd.reports.results import read_result

PLAIN, DTSKD = "demo/digits/resnet18/plain", "demo/digits/resnet18/dtskd"
ACCURACY = {PLAIN: (90.0, 92.0, 91.0), DTSKD: (91.0, 91.5, 90.0)}


def compared(folder, accuracies=ACCURACY, overrides=None):
    recipes, results = [], []
    for name, values in accuracies.items():
        for seed, value in enumerate(values):
            recipe = resolve(name, {"seed": seed, **(overrides or {})})
            results.append(read_result(recipe, write_run(recipe, folder, {"main": value})))
        recipes.append(recipe)
    return Comparison.of(recipes, results, recipes[0].name)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_has_a_table_of_accuracy_and_one_of_cost(tmp_path):
    accuracy, cost, legend = compared(tmp_path).to_markdown().split("\n\n")
    header, _, plain, dtskd = map(cells, accuracy.splitlines())
    assert header == [
        *("method", "head", "runs", "last epoch (%)", "best-on-test epoch (%)", "training (%)"),
        "difference over seeds",
    ]
    assert plain == ["plain", "main", "3", "91.00 ± 1.00", "91.00 ± 1.00", "91.00 ± 1.00", ""]
    assert dtskd == ["dtskd", "main", "3", "90.83 ± 0.76", "90.83 ± 0.76", "90.83 ± 0.76", "-0.17 [-2.75, +2.42]"]
    header, _, plain, _ = map(cells, cost.splitlines())
    assert dict(zip(header, plain, strict=True)) == {
        "method": "plain",
        "images seen": "1,000",
        "s/epoch": "2",
        "training time": "00:20",
        "cost": "1.00",
        "parameters": "1,500",
        "deployed": "1,000",
    }
    lines = legend.splitlines()
    assert lines[0] == "- The accuracy is top-1 on 100 test images."
    assert lines[-2:] == [f"- Runs: {tmp_path}/{name}/{{seed-0,seed-1,seed-2}}" for name in (PLAIN, DTSKD)]


def test_one_run_of_each_has_neither_deviation_nor_interval(tmp_path):
    text = compared(tmp_path, {PLAIN: (90.0,), DTSKD: (91.0,)}).to_markdown()
    assert "±" not in text
    assert "[" not in text.partition("\n\n")[0]
    assert "There is one run of each recipe, so there is no standard deviation." in text
    assert "A single seed gives no interval." in text


def test_a_recipe_alone_has_no_difference(tmp_path):
    text = compared(tmp_path, {PLAIN: (90.0, 91.0)}).to_markdown()
    assert "difference" not in text
    assert "cost" not in text


def test_the_time_of_a_teacher_is_said_to_be_missing(tmp_path):
    taught = {"method": "kd", "teacher": "recipe", "teacher.recipe": PLAIN}
    assert "teacher is not counted: kd." in compared(tmp_path, {PLAIN: (90.0,)}, taught).to_markdown()
    assert "The training of the teacher" not in compared(tmp_path / "other").to_markdown()


def test_csv_has_a_header_and_plain_numbers(tmp_path):
    lines = [*csv.DictReader(io.StringIO(compared(tmp_path).to_csv()))]
    assert [line["recipe"] for line in lines] == [PLAIN, DTSKD]
    plain, dtskd = lines
    assert (float(plain["last_top1_mean"]), float(plain["last_top1_std"]), plain["last_top1_n"]) == (91, 1, "3")
    assert plain["last_top1_values"] == "90.0 92.0 91.0", "in the order of the seeds"
    assert plain["over_seeds_mean"] == plain["published_top1"] == plain["verdict"] == ""
    assert float(dtskd["over_seeds_mean"]) == pytest.approx(-1 / 6)
    assert (dtskd["seeds"], dtskd["best_rule"], dtskd["baseline"]) == ("0 1 2", "best-on-test", PLAIN)


def test_json_has_the_records_and_the_legend(tmp_path):
    content = json.loads(compared(tmp_path).to_json())
    assert content["rows"][0]["last"] == {"mean": 91.0, "std": 1.0, "n": 3, "values": [90.0, 92.0, 91.0]}
    assert content["costs"][1]["relative"] == 1.0
    assert content["same"]["trainer.epochs"] == 200
    assert content["baseline"] == PLAIN
    assert any("standard deviation" in line for line in content["legend"])


def test_published_figures_and_verdicts_are_in_every_form(tmp_path):
    comparison = compared(tmp_path, {"teskd/cifar100/resnet18/teskd": (79.0, 79.2, 79.1)})
    figure = comparison.rows[0].published.figure
    assert "| 79.14 ± 0.11    | 79.10 ± 0.10               | reproduced |" in comparison.to_markdown()
    assert r"& 79.14 $\pm$ 0.11    & 79.10 $\pm$ 0.10               & reproduced \\" in comparison.to_latex()
    (line,) = csv.DictReader(io.StringIO(comparison.to_csv()))
    assert (line["published_top1"], line["published_std"], line["verdict"]) == ("79.14", "0.11", "reproduced")
    assert float(line["published_difference"]) == pytest.approx(-0.04)
    assert line["selected_top1_values"] == "79.0 79.2 79.1"
    assert (line["published_reduce"], line["published_selection"]) == (figure.reduce, figure.selection)
    published = json.loads(comparison.to_json())["rows"][0]["published"]
    assert published["figure"]["source"] == "TESKD, Table 1"
    assert published["verdict"]["kind"] == "reproduced"


def test_latex_is_two_tabulars_of_booktabs_with_the_legend_as_comments(tmp_path):
    text = compared(tmp_path).to_latex()
    comments, *tabulars = text.split("\n\n")
    assert all(line.startswith("% ") for line in comments.splitlines())
    assert len(tabulars) == 2
    for tabular in tabulars:
        assert re.fullmatch(
            r"\\begin\{tabular\}\{l+\}\n\\toprule\n.*\\\\\n\\midrule\n.*\\\\\n\\bottomrule\n\\end\{tabular\}",
            tabular,
            re.DOTALL,
        )
    assert r"last epoch (\%)" in tabulars[0]
    assert r"90.83 $\pm$ 0.76" in tabulars[0]
    assert r"$-$0.17 [$-$2.75, +2.42]" in tabulars[0]


def test_a_name_cannot_break_a_table(tmp_path):
    comparison = compared(tmp_path, {PLAIN: (90.0,)})
    evil = "[a_b & 50% of #1\nselfkd: all is well\x1b[2J"
    comparison = replace(comparison, rows=(replace(comparison.rows[0], name=evil, head="{x}^~\\"),))
    latex = next(line for line in comparison.to_latex().splitlines() if "a\\_b" in line and not line.startswith("%"))
    assert latex.startswith(r" {}[a\_b \& 50\% of \#1\textbackslash{}nselfkd: all is well\textbackslash{}x1b[2J")
    assert r"\{x\}\^{}\textasciitilde{}\textbackslash{}" in latex
    assert r"[a_b & 50% of #1\nselfkd: all is well\x1b[2J |" in comparison.to_markdown()
