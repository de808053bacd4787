import json
import math
from pathlib import Path

from selfkd import cli
from selfkd.json_text import to_json


def test_what_is_not_finite_is_null():
    content = {"a": math.nan, "b": [1.5, -math.inf, (math.inf,)], "c": {"d": True, "e": "NaN", "f": None, "g": 10**30}}
    text = to_json(content)
    assert json.loads(text) == {
        "a": None,
        "b": [1.5, None, [None]],
        "c": {"d": True, "e": "NaN", "f": None, "g": 10**30},
    }
    assert to_json([1], indent=None) == "[1]"


def test_every_verb_writes_its_json_with_it():
    for file in Path(cli.__file__).parent.glob("*.py"):
        assert "import json\n" not in file.read_text(encoding="utf-8"), file.name
