"""docs/python.md: its examples run, one after the other, with a shorter training of a smaller network."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import selfkd
from image_sets import digit
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.keyword_overrides import flat_overrides
from selfkd.recipes.values import written

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.slow
def test_every_example_runs(tmp_path):
    for position in range(3):
        file = tmp_path / "digits" / f"{position}.png"
        file.parent.mkdir(exist_ok=True)
        digit(position).save(file)
    digit(0).save(tmp_path / "digit.png")
    script = "".join(EXAMPLES).replace("trainer_epochs=30", "trainer_epochs=1, backbone_width=4")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "digits/2.png" in done.stdout
    assert "| dtskd " in done.stdout


def test_keywords_and_overrides_of_the_table_are_the_same():
    rows = re.findall(r"^\| (`.*`.*) \| (`.*`) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 6
    for python, command in rows:
        call = ast.parse(f"dict({', '.join(re.findall(r'`([a-z_]+=.*?)`', python))})", mode="eval").body
        keywords = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
        texts = {key: written(value) for key, value in flat_overrides(keywords).items()}
        assert texts == split_overrides(re.findall(r"`(.*?)`", command))


def test_every_function_that_the_page_names_exists():
    named = set(re.findall(r"selfkd\.(\w+)\(", PAGE))
    assert {"train", "load", "compare", "train_several"} <= named <= set(selfkd.__all__)
