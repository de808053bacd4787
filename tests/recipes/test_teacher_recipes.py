"""The sections `teacher` and `peer`: what they say, what they inherit, and what is refused."""

import subprocess
import sys

import pytest
import yaml

from selfkd.errors import OptionError, RecipeError, UnknownNameError, UserError
from selfkd.recipes.key_checks import split_overrides
from selfkd.recipes.reader import resolve
from selfkd.recipes.recipe import differences, is_of_machine
from selfkd.recipes.teacher_recipes import network_recipe, origin_of, teachers_first
from selfkd.teachers import TEACHERS

DEMO = "demo/digits/resnet18/plain"
OF_RECIPE = {"method": "kd", "teacher": "recipe", "teacher.recipe": DEMO}


def student(**overrides):
    return resolve(DEMO, {**OF_RECIPE, **{key.replace("__", "."): value for key, value in overrides.items()}})


def teacher_of(recipe):
    (teacher,) = teachers_first(recipe)
    return teacher


def test_a_recipe_teaches_with_what_it_has_from_its_student():
    taught = student(
        seed=3,
        data__train_per_class=5,
        loader__batch_size=10,
        augmentation="crop_flip",
        optimizer="adamw",
        schedule="cosine",
        trainer__epochs=7,
        backbone__width=8,
        regularization__mixup=0.2,
    )
    teacher = teacher_of(taught)
    assert teacher.parts["method"] == "plain"
    assert "teacher" not in teacher.parts
    assert teacher.seed == 3
    for section in ("data", "loader", "augmentation", "optimizer", "schedule", "trainer", "backbone"):
        assert teacher.options[section] == taught.options[section]
        assert teacher.parts.get(section) == taught.parts.get(section)
    assert teacher.options["regularization"]["mixup"] == 0, "what is learnt from is the teacher's own affair"


def test_a_teacher_in_the_protocol_of_its_student_is_the_recipe_itself():
    taught = resolve("dtskd/cifar100/resnet18/kd", {"data.root": "somewhere", "trainer.compile": "true"})
    teacher = teacher_of(taught)
    assert teacher.name == "dtskd/cifar100/resnet101/plain"
    assert teacher.parts["backbone"] == "resnet101_cifar"
    assert teacher.options["data"]["root"] == taught.options["data"]["root"]
    assert teacher.options["trainer"]["compile"] is True
    assert teacher_of(resolve("dtskd/cifar100/resnet18/kd", {"trainer.epochs": "2"})).name == (
        "dtskd/cifar100/resnet101/plain+trainer.epochs=2"
    )


def test_what_is_said_of_the_teacher_is_its_own():
    taught = student(
        teacher__backbone__width="32", teacher__trainer__epochs=4, teacher__seed="9", teacher__regularization__mixup=0.4
    )
    teacher = teacher_of(taught)
    assert teacher.options["backbone"]["width"] == 32
    assert taught.options["backbone"]["width"] == 16
    assert (teacher.options["trainer"]["epochs"], taught.options["trainer"]["epochs"]) == (4, 200)
    assert (teacher.seed, taught.seed) == (9, 0)
    assert teacher.options["regularization"]["mixup"] == 0.4
    assert teacher_of(student(teacher__optimizer="adamw")).options["optimizer"]["lr"] == 0.001, "not that of SGD"
    assert teacher_of(student(teacher__name="mine")).name == "mine"


def test_options_of_another_network_are_not_inherited():
    assert teacher_of(student(backbone__width=8)).options["backbone"]["width"] == 8
    other = teacher_of(student(backbone__width=8, teacher__backbone="resnet34_cifar"))
    assert (other.parts["backbone"], other.options["backbone"]["width"]) == ("resnet34_cifar", 64)


def test_a_stored_recipe_resolves_to_itself(tmp_path):
    file = tmp_path / "recipe.yaml"
    for overrides in (
        {**OF_RECIPE, "teacher.backbone.width": "32", "teacher.weights": "best"},
        {"method": "kd", "teacher": "run", "teacher.path": "runs/old"},
        {"method": "kd", "teacher": "file", "teacher.path": "w.pt", "teacher.backbone": "vgg11_cifar"},
        {"method": "dml", "peer.width": "8"},
    ):
        recipe = resolve(DEMO, overrides)
        file.write_text(recipe.to_yaml())
        again = resolve(str(file))
        assert again.flat() == recipe.flat()
        assert not differences(again.flat(), recipe.flat())


def test_a_recipe_without_them_says_nothing_of_them():
    assert not [key for key in resolve(DEMO).flat() if key.startswith(("teacher", "peer"))]


def test_where_a_teacher_lies_is_no_part_of_the_experiment(tmp_path):
    overrides = {"method": "kd", "teacher": "run", "teacher.path": str(tmp_path)}
    here, there = (resolve(DEMO, {**overrides, "teacher.path": path}) for path in ("here", "there"))
    assert here.name == f"{DEMO}+method=kd+teacher=run"
    assert not differences(here.flat(), there.flat())
    assert here.options["teacher"]["path"] != there.options["teacher"]["path"]
    machine = [student(teacher__trainer__threads=threads) for threads in (1, 2)]
    assert machine[0].name == machine[1].name
    assert not differences(*(recipe.flat() for recipe in machine))
    assert is_of_machine("teacher.teacher.data.root")
    assert not is_of_machine("teacher.teacher.backbone.width")
    changed = student(teacher__backbone__width=32)
    assert differences(student().flat(), changed.flat())[1:] == ["teacher.backbone.width: None there, '32' now"]
    assert changed.name.endswith("+teacher.backbone.width=32+teacher.recipe=demo_digits_resnet18_plain")


def test_a_network_of_a_file_is_the_students_but_for_what_is_said():
    overrides = {"method": "kd", "teacher": "file", "teacher.path": "w.safetensors"}
    taught = resolve(DEMO, {**overrides, "teacher.backbone": "resnet34_cifar", "teacher.backbone.width": "8"})
    network = network_recipe(taught, origin_of(taught))
    assert (network.parts["backbone"], network.options["backbone"]["width"]) == ("resnet34_cifar", 8)
    assert network.options["data"] == taught.options["data"]
    own = {"teacher.backbone": "resnet18_cifar", "teacher.data.mean": "[0.1,0.1,0.1]"}
    taught = resolve(DEMO, {**overrides, **own})
    network = network_recipe(taught, origin_of(taught))
    assert network.options["backbone"]["width"] == 16
    assert network.options["data"]["mean"] == (0.1, 0.1, 0.1)
    taught = resolve(DEMO, overrides)
    with pytest.raises(RecipeError, match=r"teacher=file needs teacher.backbone=<name>, the network whose weights"):
        network_recipe(taught, origin_of(taught))


def test_a_network_of_timm_sees_images_as_its_weights_expect():
    taught = resolve(DEMO, {"method": "kd", "teacher": "timm", "teacher.backbone": "vit_tiny_patch16_224"})
    network = network_recipe(taught, origin_of(taught))
    assert network.options["backbone"]["pretrained"] is True
    assert network.options["data"]["mean"] == (0.5, 0.5, 0.5)
    assert taught.options["data"]["mean"] != (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"method": "kd"}, UserError, r"method 'kd' learns from a teacher.*teacher=recipe teacher.recipe=<name>"),
        ({"teacher": "recipe", "teacher.recipe": DEMO}, UserError, "'plain' takes no teacher: .*; teacher=null"),
        ({"peer": "resnet18_cifar"}, UserError, "method 'plain' takes no peer: .*; peer=null removes it$"),
        ({"peer.width": "8"}, UserError, "method 'plain' takes no peer: its class has no keyword argument peer$"),
        (
            {"method": "kd", "teacher": "recipe"},
            OptionError,
            "teacher.recipe is missing; it must be the name of a recipe",
        ),
        (
            {"method": "kd", "teacher": "run"},
            OptionError,
            "teacher.path is missing; it must be the folder of a finished run",
        ),
        ({"method": "kd", "teacher": "file"}, OptionError, "teacher.path is missing; it must be a file of weights"),
        ({"method": "kd", "teacher": "runn"}, UnknownNameError, "unknown teacher 'runn'; nearest: run"),
        (
            {**OF_RECIPE, "teacher.weights": "first"},
            RecipeError,
            "teacher.weights must be last or best",
        ),
        ({**OF_RECIPE, "teacher.backbone.widht": "8"}, UnknownNameError, "teacher.backbone.width=8"),
        (
            {"method": "kd", "teacher": "run", "teacher.path": "x", "teacher.trainer.epochs": "3"},
            RecipeError,
            "teacher.trainer.epochs='3' has no meaning with teacher=run",
        ),
        (
            {"method": "kd", "teacher": "timm", "teacher.backbone": "resnet18", "teacher.optimizer.lr": "3"},
            RecipeError,
            r"has no meaning with teacher=timm, which takes teacher.backbone, teacher.backbone.\*$",
        ),
        (
            {"method": "kd", "teacher": "timm", "teacher.backbone": "resnet18", "teacher.data.mean": "[0,0,0]"},
            RecipeError,
            r"teacher.data.mean='\[0,0,0\]' has no meaning with teacher=timm",
        ),
        (
            {"method": "kd", "teacher": "timm", "teacher.backbone": "resnet18", "teacher.backbone.pretrained": "false"},
            RecipeError,
            "teacher.backbone.pretrained='false' has no meaning with teacher=timm",
        ),
        (
            {"method": "kd", "teacher": "file", "teacher.path": "x", "teacher.data.image_size": "8"},
            RecipeError,
            r"takes teacher.path, teacher.backbone, teacher.backbone.\*, teacher.data.mean, teacher.data.std$",
        ),
        (
            {**OF_RECIPE, "teacher.path": "x"},
            RecipeError,
            "teacher.path='x' has no meaning with teacher=recipe, which takes teacher.recipe, teacher.weights",
        ),
        (
            {"method": "kd", "teacher": "timm", "teacher.backbone": "resnet18", "teacher.weights": "best"},
            RecipeError,
            "teacher.weights='best' has no meaning with teacher=timm",
        ),
        (
            {**OF_RECIPE, "teacher.recipy": "x"},
            UnknownNameError,
            "nearest: teacher.recipe=x, teacher.seed=x, teacher.peer=x;",
        ),
        ({**OF_RECIPE, "teacher.teacher.pth": "x"}, UnknownNameError, "nearest: teacher.teacher.path=x"),
        (
            {"method": "kd", "teacher": "run", "teacher.path": "x", "teacher.backbone.widht": "8"},
            UnknownNameError,
            "unknown option 'teacher.backbone.widht'; nearest: teacher.weights=8, teacher.path=8; 'selfkd train",
        ),
        ({"method": "dml", "peer": "resnet18_cifer"}, UnknownNameError, "nearest: resnet18_cifar"),
        ({"method": "dml", "peer.widht": "8"}, UnknownNameError, "peer.width=8"),
    ],
)
def test_what_is_no_teacher_and_no_peer_is_refused(overrides, error, message):
    with pytest.raises(error, match=message):
        resolve(DEMO, overrides)


def test_an_option_that_its_recipe_refuses_is_named():
    with pytest.raises(RecipeError, match="the teacher's recipe: trainer.epochs=0 is not allowed"):
        teachers_first(student(teacher__trainer__epochs="0"))
    with pytest.raises(RecipeError, match="the teacher's recipe: unknown recipe 'demo/digits/resnet18/plane'"):
        teachers_first(student(teacher__recipe="demo/digits/resnet18/plane"))


def test_a_chain_of_teachers_and_a_circle(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"include": DEMO, **OF_RECIPE}))
    taught = student(teacher__recipe=str(own))
    assert [recipe.parts["method"] for recipe in teachers_first(taught)] == ["plain", "kd"]
    own.write_text(yaml.safe_dump({"include": DEMO, "method": "kd", "teacher": "recipe", "teacher.recipe": str(own)}))
    with pytest.raises(RecipeError, match="would share one run folder: own seed 0 -> own seed 0; a recipe"):
        teachers_first(resolve(str(own)))


def test_a_teacher_may_have_the_name_of_its_student_if_it_has_another_seed():
    assert teacher_of(student(name="same", teacher__name="same", teacher__seed="1")).seed == 1
    with pytest.raises(RecipeError, match="would share one run folder: same seed 0 -> same seed 0;"):
        teachers_first(student(name="same", teacher__name="same"))


def test_the_file_of_a_teachers_recipe_is_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"include": DEMO}))
    monkeypatch.chdir(tmp_path)
    taught = student(teacher__recipe="own.yaml")
    assert taught.name == f"{DEMO}+method=kd+teacher=recipe+teacher.recipe=own"
    (tmp_path / "stored.yaml").write_text(taught.to_yaml())
    monkeypatch.chdir("/")
    stored = resolve(str(tmp_path / "stored.yaml"))
    assert teacher_of(stored).name == "own"
    assert stored.options["teacher"]["recipe"] == str(tmp_path / "own.yaml")


def test_a_file_that_names_somebodys_own_code_for_its_teacher_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"include": DEMO, **OF_RECIPE, "teacher.method": "selfkd.methods.plain:Plain"}))
    with pytest.raises(RecipeError, match="names the teacher.method 'selfkd.methods.plain:Plain', whose import runs"):
        resolve(str(own))
    assert teacher_of(resolve(str(own), trust_imports=True)).parts["method"] == "selfkd.methods.plain:Plain"
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(yaml.safe_dump({"include": DEMO, "method": "selfkd.methods.plain:Plain"}))
    taught = student(teacher__recipe=str(teacher))
    with pytest.raises(RecipeError, match="names the method 'selfkd.methods.plain:Plain', whose import runs code"):
        teachers_first(taught)
    assert teachers_first(taught, trust_imports=True)
    assert teachers_first(student(teacher__method="selfkd.methods.plain:Plain")), "the command line says what it trusts"


def test_options_of_somebodys_own_code_are_for_the_teachers_recipe_to_know(tmp_path, monkeypatch):
    (tmp_path / "own_teaching.py").write_text(
        "from selfkd.methods.plain import Plain\n"
        "class Weighted(Plain):\n"
        "    def __init__(self, backbone, data, *, weight: float = 1.0):\n"
        "        super().__init__(backbone, data)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    teacher = teacher_of(student(teacher__method__weight="0.5", teacher__method="own_teaching:Weighted"))
    assert teacher.options["method"] == {"weight": 0.5}
    with pytest.raises(RecipeError, match="the teacher's recipe: unknown option 'method.wait'"):
        teachers_first(student(teacher__method="own_teaching:Weighted", teacher__method__wait="1"))


def test_a_peer_is_like_the_backbone_unless_somebody_says_otherwise():
    like = resolve(DEMO, {"method": "dml", "backbone.width": "8"})
    assert (like.parts["peer"], like.options["peer"]) == ("resnet18_cifar", like.options["backbone"])
    assert like.name == f"{DEMO}+backbone.width=8+method=dml"
    wide = resolve(DEMO, {"method": "dml", "peer.width": "32"})
    assert (wide.options["peer"]["width"], wide.options["backbone"]["width"]) == (32, 16)
    other = resolve(DEMO, {"method": "dml", "peer": "vgg11_cifar"})
    assert (other.parts["peer"], other.options["peer"]["width"]) == ("vgg11_cifar", 64)


def test_overrides_of_the_teacher_are_known_by_name():
    arguments = ["teacher=recipe", "teacher.recipe=x", "teacher.backbone.width=8", "teacher.seed=1", "peer.width=4"]
    assert len(split_overrides(arguments)) == 5
    with pytest.raises(UnknownNameError, match="nearest: trainer.epochs=8"):
        split_overrides(["teacher.trainer.epcohs=8"])
    with pytest.raises(UnknownNameError, match="nearest: teacher.trainer.epochs=8,"):
        split_overrides(["teacher=recipe", "teacher.trainer.epcohs=8"])
    with pytest.raises(UnknownNameError) as raised:
        split_overrides(["teacher.pth=x", "teacher=recipe"])
    assert "teacher.path=x" not in raised.value.near


def test_every_kind_of_teacher_says_what_it_is():
    for name in TEACHERS:
        assert TEACHERS.load(name).__doc__


def test_slips_are_answered_without_torch():
    program = (
        "import sys; from selfkd.recipes.key_checks import split_overrides\n"
        "try: split_overrides(['teacher.trainer.epcohs=8'])\n"
        "except Exception: sys.exit('torch' in sys.modules)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
