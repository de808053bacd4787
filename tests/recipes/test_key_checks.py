import subprocess
import sys
import textwrap

import pytest

from selfkd.recipes.key_checks import nearest_option

DTSKD = "dtskd/cifar100/resnet18/dtskd"
SLIPS = {
    "recipe": "resolve('dtskd/cifar100/resnet18/dtsk')",
    "part": "resolve(RECIPE, {'method': 'dtsk'})",
    "timm's network": "resolve(RECIPE, {'backbone': 'resnet18x'})",
    "section": "resolve(RECIPE, {'trainr.epochs': '3'})",
    "option": "resolve(RECIPE, {'method.beta_mx': '1'})",
    "name": "resolve(RECIPE, {'name': 'a/../b'})",
    "option on the command line": "split_overrides(['lr=3'])",
    "option in a file": "resolve('mine.yaml')",
    "number": "resolve(RECIPE, {'trainer.epochs': '1_000'})",
    "decimal number": "resolve(RECIPE, {'optimizer.lr': '1:30'})",
    "number in a list": "resolve(RECIPE, {'schedule.milestones': '[010,20]'})",
    "list without end": "resolve(RECIPE, {'schedule.milestones': '[' + '1,' * 20001 + ']'})",
    "torchvision by its import": "resolve(RECIPE, {'backbone': 'torchvision.models:resnet18'})",
}


def test_slips_are_answered_before_torch_is_loaded(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"include: {DTSKD}\noptimizer.momentm: 0.9\n")
    script = f"""
        import sys
        from selfkd.errors import UserError
        from selfkd.recipes.key_checks import nearest_option, split_overrides
        from selfkd.recipes.reader import resolve
        RECIPE = {DTSKD!r}
        for kind, call in {SLIPS!r}.items():
            try:
                eval(call)
            except UserError as error:
                assert "torch" not in sys.modules, f"{{kind}}: torch was loaded"
                print(kind, error)
        print(nearest_option("--epochs", "3"))
        assert "torch" not in sys.modules and "timm" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(SLIPS) + 1, done.stdout
    assert lines[-1] == "trainer.epochs=3"


@pytest.mark.parametrize(
    ("word", "value", "meant"),
    [
        ("--epochs", "3", "trainer.epochs=3"),
        ("--lr", "0.1", "optimizer.lr=0.1"),
        ("--learning-rate", "0.1", "optimizer.lr=0.1"),
        ("--batch-size", "8", "loader.batch_size=8"),
        ("--data-root", "x", "data.root=x"),
        ("epoch", "3", "trainer.epochs=3"),
        ("--arch", "resnet18", "backbone=resnet18"),
        ("--zzzzzz", "1", None),
    ],
)
def test_the_nearest_option_to_a_word(word, value, meant):
    assert nearest_option(word, value) == meant
