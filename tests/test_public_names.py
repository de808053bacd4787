import subprocess
import sys

import pytest

import selfkd


@pytest.mark.parametrize("name", selfkd.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(selfkd, name).__doc__
    assert name in dir(selfkd)


def test_importing_selfkd_imports_nothing_heavy():
    code = "import sys, selfkd; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'pytorch_lightning')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = selfkd.nothing
