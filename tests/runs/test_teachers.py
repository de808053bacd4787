"""Runs with a teacher or a peer: who is trained when, what is kept of them, and what needs them no more."""

import json
import logging
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from short_runs import interrupted
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from accuracies import accuracies
from image_sets import digit, write_folder
from selfkd.api import load
from selfkd.backbones.pretrained import preprocessing_of
from selfkd.contract import Needs, StepOutput
from selfkd.errors import CheckpointError, DataError, OptionError, RecipeError, RunError, UserError, WeightsError
from selfkd.methods.base import Method
from selfkd.methods.kd import KD
from selfkd.methods.plain import Plain
from selfkd.recipes.reader import resolve
from selfkd.runs import teachers
from selfkd.runs.build import Experiment
from selfkd.runs.evaluate import evaluate
from selfkd.runs.export import export_run
from selfkd.runs.loading import load_method
from selfkd.runs.run_folder import RunFolder
from selfkd.runs.train import run
from selfkd.training.checkpoint_content import read_checkpoint
from selfkd.training.checkpoint_files import epochs_done, newest_checkpoint

DEMO = "demo/digits/resnet18/plain"
SHORT = {"backbone.width": 4, "trainer.epochs": 2, "trainer.evaluate_every": 1, "data.train_per_class": 3}
OF_RECIPE = {"method": "kd", "teacher": "recipe", "teacher.recipe": DEMO, "teacher.name": "teacher", "name": "student"}


def student(**overrides):
    return resolve(DEMO, {**SHORT, **OF_RECIPE, **{key.replace("__", "."): value for key, value in overrides.items()}})


def of_run(path, **overrides):
    changes = {"method": "kd", "teacher": "run", "teacher.path": str(path), "name": "student"}
    return resolve(DEMO, {**SHORT, **changes, **{key.replace("__", "."): value for key, value in overrides.items()}})


def trained(recipe, runs, **options):
    return run(recipe, runs, show_progress=False, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A student that learnt from a recipe, beside its teacher."""
    runs = tmp_path_factory.mktemp("runs")
    trained(student(), runs)
    return runs


@pytest.fixture
def copied(runs, tmp_path):
    """The same two runs, to be changed."""
    return shutil.copytree(runs, tmp_path / "copied")


def test_the_teacher_is_trained_first_and_its_checksum_is_in_the_students_run(runs):
    teacher, taught = (RunFolder(runs / name / "seed-0") for name in ("teacher", "student"))
    assert teacher.is_finished
    assert teacher.recipe().parts["method"] == "plain"
    record = taught.teacher()
    loaded = load(teacher.path)
    assert record == teachers.Teacher(teachers.staged_at(loaded.network, loaded.input_size)).record
    assert not teacher.teacher_file.exists()
    weights = read_checkpoint(newest_checkpoint(taught.checkpoints))["state_dict"]
    assert all(key.startswith("method.backbone.") for key in weights)
    parameters = taught.scores()["parameters"]
    assert parameters["training"] == parameters["deployed"]


def test_a_finished_student_needs_no_teacher(copied, caplog, monkeypatch):
    shutil.rmtree(copied / "teacher")
    folder = RunFolder(copied / "student" / "seed-0")
    scores = accuracies(folder.path)
    assert scores == folder.scores()["last"]["scores"]["test"]
    loaded = load(folder.path)
    assert loaded.network(loaded.transform(digit(3)).unsqueeze(0)).shape == (1, 10)
    export_run(folder.path, "best")
    with caplog.at_level(logging.INFO, "selfkd"):
        trained(student(), copied)
    assert "is finished" in caplog.text
    assert not (copied / "teacher").exists()


def test_a_finished_teacher_is_reused_and_survives_overwrite(copied):
    teacher = RunFolder(copied / "teacher" / "seed-0")
    before = teacher.scores_file.stat().st_mtime_ns
    reference = load_file(copied / "student" / "seed-0" / "model.safetensors")
    taught = trained(student(), copied, overwrite=True)
    assert teacher.scores_file.stat().st_mtime_ns == before
    again = load_file(taught.network_file)
    assert all(torch.equal(value, reference[key]) for key, value in again.items())


def test_equal_seeds_share_initial_weights_with_whoever_learns_alone(runs):
    plain = Experiment.build(resolve(DEMO, SHORT)).method.backbone.state_dict()
    absent = teachers.Teacher.from_record(RunFolder(runs / "student" / "seed-0").teacher())
    taught = Experiment.build(of_run(runs / "teacher/seed-0"), teacher=lambda *_: absent).method
    mutual = Experiment.build(resolve(DEMO, {**SHORT, "method": "dml"})).method
    for method in (taught, mutual):
        for key, value in method.backbone.state_dict().items():
            assert torch.equal(value, plain[key])
    peer = mutual.peer.network.state_dict()
    assert not torch.equal(peer["fc.weight"], mutual.backbone.network.state_dict()["fc.weight"])


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_whoever_is_interrupted_the_same_command_continues(runs, who, tmp_path):
    with interrupted(1, {"teacher": Plain, "student": KD}[who]):
        trained(student(), tmp_path)
    assert epochs_done(tmp_path / who / "seed-0" / "checkpoints") == 1
    trained(student(), tmp_path)
    for name in ("teacher", "student"):
        ours, theirs = (load_file(place / name / "seed-0" / "model.safetensors") for place in (tmp_path, runs))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def unfinished(runs):
    """Let the student be a run that stopped after its first epoch."""

    with interrupted(1, KD):
        trained(student(), runs, overwrite=True)


def test_a_run_does_not_continue_with_another_teacher(copied):
    unfinished(copied)
    trained(resolve(DEMO, {**SHORT, "name": "teacher", "backbone.width": 4, "optimizer.lr": 0.01}), copied / "other")
    teacher = copied / "teacher" / "seed-0"
    moved = teacher.rename(copied / "elsewhere")
    shutil.copytree(copied / "other/teacher/seed-0", teacher)
    shutil.copy(moved / "recipe.yaml", teacher)
    with pytest.raises(RunError, match=r"learns from another teacher: the checksum of its weights is \w{12} there"):
        trained(student(), copied)
    shutil.rmtree(teacher)
    moved.rename(teacher)
    assert trained(student(), copied).is_finished


def test_where_the_teacher_lies_may_change(runs, tmp_path):
    with interrupted(1, KD):
        trained(of_run(runs / "teacher" / "seed-0"), tmp_path)
    moved = shutil.copytree(runs / "teacher" / "seed-0", tmp_path / "moved")
    assert trained(of_run(moved), tmp_path).is_finished


def test_a_finished_run_is_not_the_result_of_another_teacher(copied, tmp_path, caplog):
    teacher, other = (copied / name / "seed-0" for name in ("teacher", "other"))
    trained(resolve(DEMO, {**SHORT, "name": "other", "optimizer.lr": 0.01}), copied)
    trained(of_run(teacher), tmp_path)
    with pytest.raises(RunError, match="learns from another teacher: the checksum of its weights is"):
        trained(of_run(other), tmp_path)
    file = shutil.copy(other / "model.safetensors", tmp_path)
    options = {"teacher": "file", "teacher__backbone": "resnet18_cifar", "name": "by_file"}
    trained(of_run(teacher / "model.safetensors", **options), tmp_path)
    with pytest.raises(RunError, match="learns from another teacher"):
        trained(of_run(file, **options), tmp_path)
    for path in (teacher, "gone"):
        caplog.clear()
        with caplog.at_level(logging.INFO, "selfkd"):
            assert trained(of_run(path), tmp_path).is_finished
        assert "is finished; --overwrite trains it again" in caplog.text
        assert ("gone is gone, so it is not checked" in caplog.text) == (path == "gone")


def test_a_student_that_cannot_be_trained_is_refused_before_its_teacher_is(tmp_path):
    for overrides, message in (
        ({"method.temperature": 0}, "method.temperature=0"),
        ({"loader.batch_size": 10_000_000_000}, "loader.batch_size"),
        (
            {"teacher.backbone": "vit_tiny_patch16_224"},
            r"VisionTransformer cannot be run on one image of shape \(3, 16, 16\)",
        ),
        ({"teacher.data.image_size": "32"}, "the teacher teacher takes images of 3x32x32, the student's are 3x16x16"),
        ({"teacher.data.classes": "[0,ten]"}, "the teacher's recipe: .*ten"),
        ({"teacher.data.classes": "7"}, "the teacher teacher has 7 classes, and the student has 10"),
        ({"teacher.data.classes": "[9,1,2,3,4,5,6,7,8,0]"}, "the teacher teacher has other classes .*: class 0 is '9'"),
    ):
        with pytest.raises(UserError, match=message):
            trained(student(**{key.replace(".", "__"): value for key, value in overrides.items()}), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data__classes": 7}, r"has 10 classes, and the student has 7"),
        ({"data__classes": "[9,1,2,3,4,5,6,7,8,0]"}, "other classes than the student, or in another order: class 0 is"),
        ({"data__image_size": 24}, "takes images of 3x16x16, the student's are 3x24x24"),
        ({"teacher__path": "nowhere"}, "nowhere is not a run folder"),
    ],
)
def test_a_run_that_does_not_suit_its_student_is_refused(runs, tmp_path, overrides, message):
    with pytest.raises((RunError, DataError), match=message):
        trained(of_run(runs / "teacher" / "seed-0", **overrides), tmp_path)
    assert not (tmp_path / "student").exists()


def test_an_unfinished_run_does_not_teach(copied, tmp_path):
    unfinished(copied)
    with pytest.raises(RunError, match="is not finished; continue it with the command that started it"):
        trained(of_run(copied / "student" / "seed-0"), tmp_path)


def test_best_weights_teach_if_asked_for(copied, tmp_path):
    folder = copied / "teacher" / "seed-0"
    records = {
        weights: trained(of_run(folder, teacher__weights=weights, name=weights), tmp_path).teacher()
        for weights in ("last", "best")
    }
    assert RunFolder(folder).scores()["best"]["epoch"] == 1
    assert records["last"] != records["best"]


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_file_teaches_as_the_run_that_it_is_from(runs, tmp_path, ending):
    folder = RunFolder(runs / "teacher" / "seed-0")
    weights = load_file(folder.network_file)
    file = tmp_path / f"weights.{ending}"
    save_file(weights, file) if ending == "safetensors" else torch.save(weights, file)
    options = {"method": "kd", "teacher": "file", "teacher.path": str(file), "teacher.backbone": "resnet18_cifar"}
    taught = trained(resolve(DEMO, {**SHORT, **options, "name": "student"}), tmp_path / "runs")
    expected = RunFolder(runs / "student" / "seed-0")
    assert taught.teacher() == expected.teacher()
    for key, value in load_file(expected.network_file).items():
        assert torch.equal(value, load_file(taught.network_file)[key])


def test_a_file_that_cannot_teach_is_refused(runs, tmp_path):
    options = {"method": "kd", "teacher": "file", "teacher.backbone": "resnet18_cifar", "name": "student"}
    weights = load_file(RunFolder(runs / "teacher" / "seed-0").network_file)
    torch.save({"weights": [1, 2]}, tmp_path / "list.pt")
    torch.save(weights, tmp_path / "weights.pt")
    torch.save({1: torch.zeros(1)}, tmp_path / "numbered.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    whole = (tmp_path / "weights.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "empty.pt").touch()
    torch.save({**weights, "fc.bias": torch.full((10,), torch.nan)}, tmp_path / "diverged.pt")

    def refused(name, message, error=WeightsError, **more):
        recipe = resolve(DEMO, {**SHORT, **options, "teacher.path": str(tmp_path / name), **more})
        with pytest.raises(error, match=re.compile(message, re.DOTALL)):
            trained(recipe, tmp_path / "runs")

    said = (
        r"is damaged, is no file of weights, or holds more than tensors; save it with "
        r"torch.save\(network.state_dict\(\), file\)"
    )
    for name in ("text.pt", "empty.pt", "half.pt", "module.pt"):
        refused(name, f"^teacher.path=.*/{name}' {said} or as \\*.safetensors$")
    for name in ("list.pt", "numbered.pt"):
        refused(name, "is not a state dict; save it with")
    refused("diverged.pt", "the teacher's weight fc.bias is NaN or infinite", CheckpointError)
    for name in ("nothing.pt", "nothing.safetensors"):
        refused(name, f"teacher.path='.*{name}' is not allowed; there is no such file", OptionError)
    refused(
        "weights.pt", "weights.pt cannot be loaded into ResNetCifar: .*size mismatch", **{"teacher.backbone.width": 8}
    )
    refused("weights.pt", r"fc.weight.*\[10, 32\].*\[7, 32\]", **{"data.classes": 7})
    assert not (tmp_path / "runs").exists()


def test_a_network_of_timm_teaches_with_its_own_classes_size_and_normalization(tmp_path, published_vit, monkeypatch):
    published_vit(3)
    expected = preprocessing_of("test_vit")
    data = {"data": "folder", "data.root": str(write_folder(tmp_path / "photos", 10))}
    options = {"method": "kd", "teacher": "timm", "teacher.backbone": "test_vit", "name": "student"}
    options |= {"backbone.width": 4, "trainer.epochs": 1, "data.image_size": expected.side}
    with pytest.raises(DataError, match="the teacher test_vit has 1000 classes, and the student has 3"):
        trained(resolve(DEMO, {**data, **options}), tmp_path)
    monkeypatch.setattr(teachers, "published_classes", lambda name: 3 if name == "test_vit" else None)
    with pytest.raises(DataError, match="of 160x160 pixels, the student's are 32x32; .*set data.image_size=160"):
        trained(resolve(DEMO, {**data, **options, "data.image_size": 32}), tmp_path)
    with pytest.raises(RecipeError, match="teacher.backbone='resnet34_cifar' .* timm's name of"):
        trained(resolve(DEMO, {**data, **options, "teacher.backbone": "resnet34_cifar"}), tmp_path)
    seen = []
    teach = teachers.Teacher.__init__

    def note(self, network, normalization=None, student_normalization=None):
        seen.append((normalization, student_normalization))
        teach(self, network, normalization, student_normalization)

    monkeypatch.setattr(teachers.Teacher, "__init__", note)
    folder = trained(resolve(DEMO, {**data, **options}), tmp_path)
    assert folder.teacher().num_classes == 3
    ((own, given),) = seen
    assert (own.mean, own.std) == (expected.mean, expected.std)
    assert given != own


class Hinted(Method):
    """Learns to give the teacher's last map, through an adapter of the teacher's width."""

    needs = Needs(teacher=True)

    def __init__(self, backbone, data, *, teacher):
        super().__init__(backbone, data, teacher=teacher)
        self.adapter = nn.Conv2d(backbone.final_shape[0], teacher.record.final_shape[0], 1)

    def forward(self, batch, progress):
        features, taught = self.backbone(batch.images), self.teacher(batch.images)
        loss = mse_loss(self.adapter(features.final), taught.final) + cross_entropy(features.logits, batch.labels)
        return StepOutput(loss, {"loss": loss}, {"main": features.logits})


def test_an_adapter_for_a_teacher_is_rebuilt_without_the_teacher(runs, tmp_path):
    moved = shutil.copytree(runs / "teacher" / "seed-0", tmp_path / "teacher")
    folder = trained(of_run(moved, method=f"{__name__}:Hinted", backbone__width=8), tmp_path / "runs")
    shutil.rmtree(moved)
    assert folder.teacher().final_shape[0] == 32
    method = load_method(folder.path, trust_imports=True)
    assert method.adapter.weight.shape == (32, 64, 1, 1)
    assert any(
        key.startswith("method.adapter") for key in read_checkpoint(newest_checkpoint(folder.checkpoints))["state_dict"]
    )
    scores = accuracies(folder.path, trust_imports=True)
    assert scores == folder.scores()["last"]["scores"]["test"]


def test_a_damaged_record_of_the_teacher_is_named(copied):
    folder = RunFolder(copied / "student" / "seed-0")
    record = json.loads(folder.teacher_file.read_text())
    for content, message in (
        ({**record, "num_classes": "many"}, "teacher.json is damaged"),
        ({key: value for key, value in record.items() if key != "checksum"}, "teacher.json is damaged"),
        ([], "teacher.json is damaged"),
    ):
        folder.teacher_file.write_text(json.dumps(content))
        with pytest.raises(RunError, match=message):
            evaluate(folder.path)
    folder.teacher_file.unlink()
    with pytest.raises(RunError, match="does not say which teacher it has: teacher.json is missing"):
        evaluate(folder.path)


def test_mutual_learning_reports_its_peer_and_deploys_without_it(tmp_path, caplog):
    recipe = resolve(DEMO, {**SHORT, "method": "dml", "peer.width": 8, "name": "mutual"})
    folder = trained(recipe, tmp_path)
    assert set(folder.scores()["last"]["scores"]["test"]) == {"main", "peer"}
    parameters = folder.scores()["parameters"]
    assert parameters["training"] > 2 * parameters["deployed"]
    assert accuracies(folder.path) == folder.scores()["last"]["scores"]["test"]
    assert not any(key.startswith("peer") for key in load_file(folder.network_file))
    assert not folder.teacher_file.exists()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Method, "__init__", None)
        export_run(folder.path, "best")
        assert load(folder.path).network is not None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "dml"])
def test_the_command_trains_evaluates_predicts_and_exports(selfkd, tmp_path, method):
    options = {**SHORT, "method": method, "name": method, **(OF_RECIPE if method == "kd" else {})}
    overrides = [f"{key}={value}" for key, value in {**options, "name": method}.items()]
    done = selfkd("train", DEMO, *overrides, "--no-progress")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / method / "seed-0"
    if method == "kd":
        assert "the teacher is trained first: runs/teacher/seed-0" in done.stderr
        shutil.rmtree(tmp_path / "runs" / "teacher")
    evaluated = selfkd("evaluate", folder, "--json")
    heads = json.loads(evaluated.stdout)["scores"]
    trained = RunFolder(folder).scores()["last"]["scores"]["test"]
    assert set(heads) == set(trained) == ({"main"} if method == "kd" else {"main", "peer"})
    assert all(heads[head]["top1"]["value"] == trained[head]["top1"]["value"] for head in heads)
    assert selfkd("export", folder, "--format", "safetensors").returncode == 0
    image = tmp_path / "digit.png"
    digit(3).save(image)
    assert selfkd("predict", folder, image).returncode == 0


def test_an_option_of_the_peer_is_named_as_it_was_written(tmp_path):
    with pytest.raises(OptionError, match="peer.width=0 is not allowed"):
        trained(resolve(DEMO, {**SHORT, "method": "dml", "peer.width": 0}), tmp_path)
