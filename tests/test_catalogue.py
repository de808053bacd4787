import pytest

from selfkd.backbones import BACKBONES
from selfkd.data import AUGMENTATIONS, DATASETS
from selfkd.errors import UnknownNameError, UserError
from selfkd.methods import METHODS
from selfkd.supervision import SUPERVISIONS
from selfkd.teachers import TEACHERS
from selfkd.training import OPTIMIZERS, SCHEDULES

CATALOGUES = [AUGMENTATIONS, BACKBONES, DATASETS, METHODS, OPTIMIZERS, SCHEDULES, SUPERVISIONS, TEACHERS]


@pytest.mark.parametrize(
    ("catalogue", "name"),
    [pytest.param(catalogue, name, id=name) for catalogue in CATALOGUES for name in catalogue],
)
def test_every_name_leads_somewhere(catalogue, name):
    assert callable(catalogue.load(name))
    assert catalogue[name].summary


def test_an_unknown_name_brings_the_nearest_and_where_to_look():
    with pytest.raises(UnknownNameError, match="unknown method 'pskd'; nearest: ps_kd.*'selfkd list methods'"):
        METHODS.load("pskd")
    with pytest.raises(UnknownNameError, match="unknown method 'zzz'; 'selfkd list methods'"):
        METHODS.load("zzz")


def test_somebodys_own():
    assert METHODS.load("collections:OrderedDict").__name__ == "OrderedDict"
    with pytest.raises(UserError, match="method 'collections:Nothing' cannot be imported"):
        METHODS.load("collections:Nothing")
    with pytest.raises(UnknownNameError, match="unknown augmentation 'subprocess:Popen'"):
        AUGMENTATIONS.load("subprocess:Popen")
