import pytest

from selfkd.errors import RecipeError, UnknownNameError
from selfkd.recipes.reader import resolve
from selfkd.recipes.yaml_files import Budget, is_other_number, is_plain_number, list_value, read_mapping

RECIPE = "demo/digits/resnet18/plain"


def read(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    return read_mapping(file, Budget())


def test_plain_values_have_their_types_and_all_else_is_text(tmp_path):
    text = """
        whole: 12
        negative: -3
        decimal: 0.5
        exponent: 1.0e-07
        none: null
        yes: true
        octal: 010
        sexagesimal: 1:30
        grouped: 1_000
        date: 2024-01-01
        switch: on
        list: [1, 010, no]
    """
    assert read(tmp_path, text) == {
        "whole": 12,
        "negative": -3,
        "decimal": 0.5,
        "exponent": 1e-7,
        "none": None,
        "yes": True,
        "octal": "010",
        "sexagesimal": "1:30",
        "grouped": "1_000",
        "date": "2024-01-01",
        "switch": "on",
        "list": [1, "010", "no"],
    }


def bomb(levels):
    """A list whose aliases stand for ten times as many values at every level."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(9), "line 2, column .*: an alias repeats a list or mapping; write it out"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", "an alias repeats a list or mapping"),
        ("a: &a x\nb: [" + "*a, " * 101 + "]", "more than 100 aliases"),
        ("a: " + "[" * 100_000, "nested more than 10 levels deep"),
        ("a: " + "{b: " * 50, "nested more than 10 levels deep"),
        ("\n".join(f"key{i}: 1" for i in range(20_001)), "more than 20000 values"),
        ("a: " + "x" * 2**20, "over 1048576 bytes"),
        ("a: !!python/object/apply:os.system [ls]", r"tags \(!\) have no meaning in a recipe"),
        ("a: !!int x", r"tags \(!\) have no meaning"),
        ("a: 1\nb: 2\na: 3\n", "line 1, column 1: a is given twice"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: \0", "cannot be read as a recipe"),
        ("- a", "must hold one mapping"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message) as raised:
        read(tmp_path, text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_short_text_may_be_repeated_by_an_alias(tmp_path):
    assert read(tmp_path, "a: &rate 0.1\nb: *rate\n") == {"a": 0.1, "b": 0.1}


def test_many_keys_are_read_quickly_enough_to_be_told_which_is_wrong(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(f"include: {RECIPE}\n" + "".join(f"trainer.key{i}: 1\n" for i in range(9000)))
    with pytest.raises(UnknownNameError, match="unknown option 'trainer.key0'"):
        resolve(str(file))


def test_inclusions_are_counted(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.yaml").write_text(f"include: [{i + 1}.yaml, {i + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text(f"include: {RECIPE}\n")
    with pytest.raises(RecipeError, match="is one include too many; a recipe may read 64 files in all"):
        resolve(str(tmp_path / "0.yaml"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b.yaml", "null byte"),
        ("~no_such_user/a.yaml", "cannot be read as a recipe"),
        ("x" * 5000 + ".yaml", "too long"),
        ("nothing.yaml", "No such file"),
        ("a\udc80.yaml", "cannot be read as a recipe"),
    ],
)
def test_paths_that_no_file_can_have_are_refused(path, message):
    with pytest.raises(RecipeError, match=message):
        resolve(path)


def test_what_is_no_file_is_not_read(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    for name in ("folder.yaml", "device.yaml"):
        with pytest.raises(RecipeError, match="cannot be read as a recipe: it is not a file"):
            resolve(str(tmp_path / name))


@pytest.mark.parametrize("text", ["1", "-2", "+3", "0.5", ".5", "1.", "1e-4", "2E+3", ".inf", ".nan"])
def test_plain_numbers(text):
    assert is_plain_number(text)


@pytest.mark.parametrize("text", ["010", "1_0", "1:30", "0x1F", "0b1", "00", "1 0", "", "e5", "one"])
def test_no_plain_numbers(text):
    assert not is_plain_number(text)


def test_lists_of_an_override():
    assert list_value("[1, 010, null, true, x]") == [1, "010", None, True, "x"]
    assert list_value("[1") is None
    assert list_value("1") is None
    with pytest.raises(RecipeError, match="more than 20000 values"):
        list_value(f"[{'1,' * 20_000}]")


@pytest.mark.parametrize("text", ["010", "1_000", "1:30", "0x1F", "-1_0", "1_0.5"])
def test_numbers_in_other_notations(text):
    assert is_other_number(text)


@pytest.mark.parametrize("text", ["10", "1e3", ".5", "", "x", "2024-13-45", "1.2.3", "-", "..", "[010]", "32-true"])
def test_what_is_no_number_in_another_notation(text):
    assert not is_other_number(text)
