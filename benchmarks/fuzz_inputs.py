"""The bad inputs of `benchmarks/fuzz.py`: for every verb of the command, and for every kind of file that it reads."""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_server import CommandServer
from digit_images import write_images

__all__ = ["Ground", "Input", "inputs"]

RECIPE = "demo/digits/resnet18/dtskd"
TINY = {
    "backbone.width": "4",
    "trainer.epochs": "1",
    "data.classes": "[0,1]",
    "data.train_per_class": "4",
    "loader.batch_size": "4",
    "history.storage": "device",
}
OF_FILES = {**TINY, "data.image_size": "16"}

Prepare = Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Input:
    """One bad input.

    Args:
        verb: the verb of the command.
        about: the fault in a few words; different for each input.
        prepare: makes the needed files in an empty folder, in which the command runs, and returns the arguments.
    """

    verb: str
    about: str
    prepare: Prepare


@dataclass(frozen=True)
class Ground:
    """Good files, of which the inputs make bad ones.

    Args:
        run: a finished run.
        images: folder of `<split>/<class>/*.png`.
    """

    run: Path
    images: Path

    @classmethod
    def made(cls, server: CommandServer, folder: Path) -> Ground:
        """Train the run and write the images."""
        images = write_images(folder / "images", train=4, test=2)
        arguments = ["train", RECIPE, *_written(TINY), "name=tiny", "--runs", str(folder), "--no-progress"]
        command = server.start(arguments, folder / "ground.txt")
        if command.wait():
            raise RuntimeError(f"the tiny run failed: {command.log.read_text()}")
        return cls(folder / "tiny" / "seed-0", images)


TEXTS = (
    *("", "null", "-1", "0", "2", "nan", "inf", "1e308", "1e-400", "true", "[]", "[1,2", "{}", "010", "1:30", "1_000"),
    *("0x10", "[[[[1]]]]", "[0.5,0.5]", "9" * 400, "-" + "9" * 400, "x" * 5000, "a\nb", "\x1b[31mred", "~nobody/x"),
    *("é\u202e", "\udcff", "!!python/object:os.system", "a=b", "*", "../..", "/dev/null", " ", "None"),
)
OPTIONS = (
    *("seed", "data.root", "data.classes", "data.train_per_class", "data.validation_fraction", "data.mean", "data.std"),
    *("backbone.width", "augmentation", "method.temperature", "method.beta_max", "method.structural_weight"),
    *("optimizer", "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "schedule", "schedule.milestones"),
    *("regularization.cutout", "regularization.mixup", "loader.batch_size", "loader.workers", "loader.device_share"),
    *("loader.evaluation_batch_size", "history.top_k", "history.dtype", "history.storage", "trainer.epochs"),
    *("trainer.precision", "trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.compile"),
    *("trainer.checkpoint_every", "trainer.evaluate_every", "trainer.guard_every", "trainer.loggers", "trainer.freeze"),
    *("backbone.weights", "optimizer.head_lr_factor", "optimizer.layer_decay", "name", "lr"),
)
OWN = (
    "os:system",
    "os:getcwd",
    "json:loads",
    "math:sqrt",
    "sys:exit",
    "selfkd.methods.base:Method",
    "a:b:c",
    ":",
    "x:",
    ":x",
    "selfkd.errors:SelfKDError",
    "torchvision.models:resnet18",
    "../x:y",
    "no.such:Thing",
    "\x1b[2J:x",
    "a b:c",
)
OWN_DATA = (
    *OWN,
    "os:environ",
    "sys:path",
    "sys:version",
    "builtins:dict",
    "builtins:list",
    "builtins:open",
    "torch.utils.data:Dataset",
    "torch.utils.data:DataLoader",
    "torchvision.datasets:CIFAR10",
    "torchvision.datasets:ImageFolder",
    "selfkd.data.sources.base:Source",
    "selfkd.data.sources.datasets:DatasetObjects",
)
NAMES = (
    "a/" * 3000 + "a",
    "x" * 300,
    "\udcff",
    "~nobody",
    "a\x1b[2Jb",
    "a\nselfkd: done",
    "..",
    "/nowhere/x",
    "a//b",
    " ",
    "con",
    "*",
    "a\u202eb",
    "-",
    "--runs",
    "a\\b",
    ".",
    "é" * 120,
)
PLACES = (
    *("", "nowhere", ".", "/", "/dev/null", "/dev/zero", "~nobody/x", "x" * 300, "a/" * 3000, "\udcff", "a\x1b[2Jb"),
    *("/proc/self", "a\nb", "file.txt"),
)

_VERBS = ("train", "compare", "evaluate", "predict", "export", "check", "list")
LINES = """\
train --epochs 3
train --seeds 3
train --jobs
train --jobs 0
train --jobs x seed=0,1
train seed=
train seed=,
train seed=0,x
train seed=0,-1
train seed=[0,1]
train seed=0,1,99999999999999999999
train data=folder data.image_size=16 data.root=nowhere
train method=plain,dtskd
train demo/digits/* name=x
train nothing/*
train [
train demo/digits/resnet18/plain method=plain,
train demo/digits/resnet18/plain method=plain,dtsk
train demo/digits/resnet18/plain method=plain,dtskd name=x
train demo/digits/resnet18/plain optimizer=sgd,adamw optimizer.momentum=0.5
train --lr=0.1
train x y z
train --runs
train --seed 1
train =
train a=b=c
train seed=1 seed=2
train --json --json x=y
train name=x
train -x
train -
train -- x
--debug
compare
compare x
compare nothing/*
compare [
compare demo/digits/resnet18/plain x=1
compare demo/digits/resnet18/* --no-train
compare demo/digits/resnet18/* --no-train --seeds 0
compare demo/digits/resnet18/* --no-train --seeds -1
compare demo/digits/resnet18/* --no-train --seeds 1,,2
compare demo/digits/resnet18/* --no-train --seeds 99999999999999999999
compare demo/digits/resnet18/* --no-train --seeds 2 seed=1
compare demo/digits/resnet18/* --no-train --baseline x
compare demo/digits/resnet18/* --no-train --format html
compare demo/digits/resnet18/* --no-train --heads branch1
compare demo/digits/resnet18/* --no-train --output .
compare demo/digits/resnet18/* --jobs 0
compare demo/digits/resnet18/* --jobs x
compare demo/digits/resnet18/* name=one
compare demo/digits/resnet18/plain teskd/cifar100/resnet18/plain
compare demo/digits/resnet18/plain --no-train method=plain,,dtskd
compare demo/digits/resnet18/plain --no-train --runs /dev/null
compare RUN
compare RUN/recipe.yaml --no-train
evaluate
evaluate --split
evaluate RUN --split x
evaluate RUN x
evaluate RUN trainer.epochs=2
evaluate RUN --checkpoint 3
evaluate RUN data.root=
evaluate RUN loader.workers=-1
evaluate RUN =
evaluate RUN --data
evaluate RUN --data RUN
evaluate RUN --data IMAGE
evaluate RUN --data nosuch
evaluate RUN --data nosuch --split train
evaluate RUN --data RUN --keep-logits
evaluate RUN --keep-logits --json
evaluate RUN --keep-logit
evaluate RUN --temperature
evaluate RUN --temperature 2
evaluate RUN --temperature --split validation
evaluate RUN --keep-logits --temperature --checkpoint best --split train
predict RUN
predict RUN IMAGE --top x
predict RUN IMAGE --top 0
predict RUN IMAGE --top -1
predict RUN IMAGE --top 99999999999999999999
predict RUN IMAGE --batch-size 0
predict RUN IMAGE -k 3
predict RUN IMAGE --json --csv
predict IMAGE RUN
predict RUN RUN
predict RUN IMAGE --csv --top 2
predict RUN IMAGE --batch-size 9999999999999999999999
export RUN --format onnx
export RUN --output
export RUN RUN
export RUN --checkpoint x
export
check
check x y
check digits backbone=x
check digits method=dtskd
check digits data.classes=0
check RUN
check IMAGE
check digits data=x
list
list x
list methods x
list --json
list runs RUN
list runs IMAGE
list runs nowhere
list runs --runs
list runs a b
list runs RUN --runs RUN
list runs RUN --json
list methods RUN
list methods --jsn
nothing
--versio
-v
evaluate RUN --data nowhere --data nowhere
evaluate RUN --data IMAGE --data .
evaluate RUN --data . --data . --keep-logits
evaluate RUN --data . --split validation
evaluate RUN --data . data.image_root=nowhere
evaluate RUN --data . backbone.weights=nowhere
predict RUN IMAGE --checkpoint
predict RUN IMAGE --checkpoint first
predict RUN IMAGE --checkpoint best --top 0
predict RUN nowhere.png --checkpoint best
train photos
train photos/resnet18
train photos/resnet18/dtskd
train photos/resnet18/dtskd photos/resnet18/plain
train photos/resnet18/dtskd .
train photos/resnet18/dtskd data.root=.
train photos/resnet18/dtskd data.root=IMAGE
train resnet18/photos/dtskd data.root=.
train //dtskd
train demo/plain data=csv
train demo/plain data=csv data.root=IMAGE
train demo/plain data=dataset
train demo/plain trainer.freeze=5
train demo/plain trainer.freeze=head
train demo/plain trainer.freeze=[1,2]
train demo/plain trainer.freeze=1 trainer.freeze_epochs=0
train demo/plain trainer.freeze_epochs=1 trainer.freeze=x
train demo/plain backbone.weights=IMAGE
train demo/plain backbone.weights=nowhere backbone.pretrained=true
compare photos/resnet18 data.root=.
compare photos/resnet18/plain photos/nothing data.root=.
"""
"""Command lines; RUN is a finished run, IMAGE an image file."""


def inputs(ground: Ground, seed: int) -> list[Input]:
    """All of them, in an order that the seed draws."""
    draws = random.Random(seed)  # noqa: S311  # keeps no secret
    drawn = [
        *draws.sample([*_options()], 110),
        *_parts(),
        *_supervisions(),
        *_second_networks(),
        *_teachers_runs(ground),
        *_recipes(ground, draws),
        *draws.sample([*_runs(ground, draws)], 90),
        *_crafted_checkpoints(ground),
        *_crafted_notes(ground),
        *_data(),
        *_images(ground),
        *_tables(),
        *_csv_files(ground),
        *_files_of_weights(ground),
        *_names_and_places(ground),
        *_flags(ground),
    ]
    draws.shuffle(drawn)
    return drawn


def _written(options: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in options.items()]


def _training(options: Mapping[str, str]) -> list[str]:
    """A training that is over soon, should it begin."""
    return ["train", RECIPE, *_written({**TINY, **options}), "--no-progress"]


def _options() -> Iterator[Input]:
    for key in OPTIONS:
        for number, text in enumerate(TEXTS):
            arguments = _training({key: text})
            yield Input("train", f"option {key}, text {number}", lambda folder, given=arguments: given)


def _parts() -> Iterator[Input]:
    for section in ("backbone", "method"):
        for name in OWN:
            arguments = _training({section: name})
            if section == "backbone":
                arguments.remove("backbone.width=4")
            yield Input("train", f"{section}={name}", lambda folder, given=arguments: given)
    for name in OWN_DATA:
        arguments = _training({"data": name})
        yield Input("train", f"data={name}", lambda folder, given=arguments: given)
    for section in ("data", "augmentation", "optimizer", "schedule"):
        for name in ("os:system", "nothing", "\udcff"):
            arguments = _training({section: name})
            yield Input("train", f"{section}={name!a}", lambda folder, given=arguments: given)
    for name in ("torchvision.models:resnet18", "os:system"):
        yield Input("train", f"help of {name}", lambda folder, given=name: ["train", RECIPE, f"backbone={given}", "-h"])


def _supervisions() -> Iterator[Input]:
    past = {"supervision": "historical"}
    wrong: Sequence[Mapping[str, str]] = (
        *({"supervision": name} for name in ("historcal", "", "1", "[historical]", "os:system", "\udcff", "\x1b[2J")),
        *({**past, "supervision.alpha": text} for text in ("2", "nan", "x", "null", "[1]", "9" * 400)),
        {**past, "supervision.decay": "slow"},
        {**past, "supervision.smoothing": "0.1"},
        {**past, "regularization.mixup": "0.5"},
        {"supervision": "smoothed", "supervision.smoothing": "-0.1"},
        {"supervision": "null", "supervision.alpha": "0.5"},
        {"supervision.alpha": "0.5"},
        {"supervision.nothing": "0.5"},
        {"method.supervision": "historical"},
    )
    for options in wrong:
        arguments = _training({"method": "plain", **options})
        yield Input("train", f"plain with {_in_short(options)}", lambda folder, given=arguments: given)
    for method in ("dtskd", "ps_kd", "label_smoothing", "selfkd.methods.ps_kd:PSKD"):
        arguments = _training({"method": method, "supervision": "historical"})
        yield Input("train", f"{method} with another supervision", lambda folder, given=arguments: given)


def _second_networks() -> Iterator[Input]:
    run, recipe, file, timm = ({"teacher": kind} for kind in ("run", "recipe", "file", "timm"))
    teachers: Sequence[Mapping[str, str]] = (
        {},
        *({"teacher": name} for name in ("rcipe", "", "null", "os:system", "\udcff", "../..")),
        *(run, recipe, file, timm),
        {"teacher.path": "nowhere"},
        {"teacher.nothing": "1"},
        *({**run, "teacher.path": place} for place in PLACES),
        {**run, "teacher.path": ".", "teacher.weights": "first"},
        {**run, "teacher.path": ".", "teacher.backbone.width": "4"},
        *({**recipe, "teacher.recipe": name} for name in ("nothing", RECIPE.upper(), "", "/dev/null", "\x1b[2J")),
        *({**recipe, "teacher.recipe": RECIPE, "teacher.weights": text} for text in ("first", "1")),
        {**recipe, "teacher.recipe": RECIPE, "teacher.seed": "x"},
        {**recipe, "teacher.recipe": RECIPE, "teacher.trainer.epochs": "0"},
        {**recipe, "teacher.recipe": RECIPE, "teacher.data.classes": "[0,1,2]"},
        {**recipe, "teacher.recipe": RECIPE, "teacher.method": "kd"},
        {**recipe, "teacher.recipe": RECIPE, "teacher.teacher.teacher": "run"},
        {**file, "teacher.path": "nowhere.safetensors"},
        {**file, "teacher.path": "/dev/zero", "teacher.backbone": "resnet18_cifar"},
        {**file, "teacher.path": "nowhere.pt", "teacher.backbone": "resnet18_cifar", "teacher.backbone.width": "x"},
        {**timm, "teacher.backbone": "no_network"},
        {**timm, "teacher.backbone": "resnet18_cifar"},
        {"method.teacher": "run"},
    )
    peers: Sequence[Mapping[str, str]] = (
        *({"peer": name} for name in ("nothing", "", "null", "\udcff", "os:system", "math:sqrt")),
        *({"peer.width": text} for text in ("0", "x", "-1", "null", "1e308")),
        {"peer.nothing": "1"},
        {"method.peer": "resnet18_cifar"},
    )
    neither: Sequence[Mapping[str, str]] = (
        {**run, "teacher.path": "."},
        {"peer": "resnet18_cifar"},
        {"peer.width": "4"},
    )
    for method, wrong in (("kd", teachers), ("dml", peers), ("plain", neither)):
        for options in wrong:
            arguments = _training({"method": method, **options})
            yield Input("train", f"{method} with {_in_short(options)}", lambda folder, given=arguments: given)


def _in_short(options: Mapping[str, str]) -> str:
    return ascii(" ".join(f"{key}={value[:40]}" for key, value in options.items()))


def _teachers_runs(ground: Ground) -> Iterator[Input]:
    """Students of a run that was spoiled, or of files that are no weights of theirs."""
    spoils: Mapping[str, Callable[[Path], object]] = {
        "that is whole": lambda run: None,
        "that is empty": lambda run: (shutil.rmtree(run), run.mkdir()),
        "of no scores": lambda run: (run / "scores.json").unlink(),
        "of no recipe": lambda run: (run / "recipe.yaml").unlink(),
        "of a recipe of text": lambda run: (run / "recipe.yaml").write_text("\x1b[31mred"),
        "of data of text": lambda run: (run / "data.json").write_text("nothing"),
        "of a network of text": lambda run: (run / "model.safetensors").write_text("nothing"),
        "of no weights": lambda run: ((run / "model.safetensors").unlink(), shutil.rmtree(run / "checkpoints")),
        "that is a file": lambda run: (shutil.rmtree(run), run.write_text("text")),
        "that is a pipe": lambda run: (shutil.rmtree(run), os.mkfifo(run)),
    }
    network = ("teacher=file", "teacher.backbone=resnet18_cifar")
    files: Mapping[str, Sequence[str]] = {
        "another width": (*network, "teacher.backbone.width=8", "teacher.path=run/model.safetensors"),
        "another network": ("teacher=file", "teacher.backbone=vgg11_cifar", "teacher.path=run/model.safetensors"),
        "no weights": (*network, "teacher.path=run/recipe.yaml"),
        "a checkpoint": (*network, "teacher.backbone.width=4", "teacher.path=run/checkpoints/best.ckpt"),
    }
    options = {"method": "kd", "teacher": "run", "teacher.path": "run"}

    def student(about: str, spoil: Callable[[Path], object], arguments: Sequence[str]) -> Input:
        def prepare(folder: Path) -> Sequence[str]:
            shutil.copytree(ground.run, folder / "run")
            spoil(folder / "run")
            return arguments

        return Input("train", f"teacher: {about}", prepare)

    for about, spoil in spoils.items():
        yield student(f"a run {about}", spoil, _training(options))
    for key, value in {"data.classes": "[0,1,2]", "seed": "3", "teacher.weights": "best"}.items():
        yield student(f"a run, with {key}={value}", spoils["that is whole"], _training({**options, key: value}))
    for about, given in files.items():
        yield student(f"a file of {about}", spoils["that is whole"], [*_training({"method": "kd"}), *given])


def _recipes(ground: Ground, draws: random.Random) -> Iterator[Input]:
    text = (ground.run / "recipe.yaml").read_text()
    lines = text.splitlines(keepends=True)
    aliases = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
    )
    contents: dict[str, bytes] = {
        "empty": b"",
        "no mapping": b"- a\n- b\n",
        "a number": b"7",
        "bytes": bytes(draws.randrange(256) for _ in range(400)),
        "utf-16": text.encode("utf-16"),
        "null byte": text.encode() + b"\0",
        "aliases": aliases.encode(),
        "deep": b"method: " + b"[" * 20000,
        "deep mapping": b"{a: " * 3000,
        "many keys": "".join(f"key{i}: {i}\n" for i in range(20000)).encode(),
        "an object": b"method: !!python/object/apply:os.getcwd []\n",
        "merge key": text.encode() + b"<<: {seed: 3}\n",
        "keys of numbers": b"1: 2\n",
        "include itself": b"include: recipe.yaml\n",
        "include nothing": b"include: nowhere.yaml\n",
        "include numbers": b"include: [1, 2]\n",
        "include a device": b"include: /dev/zero.yaml\n",
        "escape in a key": b'"\\e[31mkey": 1\n' + text.encode(),
        "tabs": b"method:\tdtskd\n\toptimizer: x\n",
        "published of text": text.encode() + b"published: much\n",
        "octal": text.encode().replace(b"seed: 0", b"seed: 010"),
        "minutes": text.encode().replace(b"trainer.epochs: 1", b"trainer.epochs: 1:30"),
        "a date": text.encode().replace(b"seed: 0", b"seed: 2001-01-01"),
        "own method": text.encode().replace(b"method: dtskd", b"method: os:system"),
        "include and another part": f"include: {RECIPE}\noptimizer: adamw\ntrainer.epochs: 1\n".encode(),
    }
    for number in range(20):
        kind, place = draws.choice(("cut", "drop", "twice", "value")), draws.randrange(len(lines))
        key = lines[place].partition(":")[0]
        replaced = {
            "cut": [*lines[:place], lines[place][: len(lines[place]) // 2]],
            "drop": lines[:place] + lines[place + 1 :],
            "twice": lines[: place + 1] + lines[place:],
            "value": [*lines[:place], f"{key}: {json.dumps(draws.choice(TEXTS))}\n", *lines[place + 1 :]],
        }[kind]
        contents[f"{kind} {number}"] = "".join(replaced).encode("utf-8", "replace")

    def written(content: bytes) -> Prepare:
        def prepare(folder: Path) -> Sequence[str]:
            (folder / "recipe.yaml").write_bytes(content)
            return ["train", "recipe.yaml", "name=mutated", "--no-progress"]

        return prepare

    for about, content in contents.items():
        yield Input("train", f"recipe file: {about}", written(content))

    def pipe(folder: Path) -> Sequence[str]:
        os.mkfifo(folder / "recipe.yaml")
        return ["train", "recipe.yaml"]

    def a_folder(folder: Path) -> Sequence[str]:
        (folder / "recipe.yaml").mkdir()
        return ["train", "recipe.yaml"]

    def chain(folder: Path) -> Sequence[str]:
        for number in range(40):
            twice = f"{number + 1}.yaml"
            (folder / f"{number}.yaml").write_text(f"include: [{twice}, {twice}]\n")
        (folder / "40.yaml").write_text(f"include: {RECIPE}\n")
        return ["train", "0.yaml", "-h"]

    yield Input("train", "recipe file: a pipe", pipe)
    yield Input("train", "recipe file: a folder", a_folder)
    yield Input("train", "recipe files that include the next twice", chain)


VERBS_OF_RUNS: Mapping[str, Sequence[str]] = {
    "evaluate": ("evaluate", "run"),
    "predict": ("predict", "run", "image.png"),
    "export": ("export", "run"),
    "list": ("list", "runs", "."),
    "train": ("train", "run/recipe.yaml", "--runs", "again", "name=run", "--no-progress"),
    "compare": ("compare", RECIPE, *_written({**TINY, "name": "tiny"}), "--no-train", "--seeds", "2"),
}


def _copied(ground: Ground, folder: Path, verb: str) -> tuple[Path, Sequence[str]]:
    """A run to be spoiled, and what is done with it."""
    shutil.copy(next((ground.images / "test").rglob("*.png")), folder / "image.png")
    if verb in ("train", "compare"):  # the run itself is continued, or compared
        path = folder / "runs" / "tiny" / "seed-0"
        shutil.copytree(ground.run, path)
        return path, _training({"name": "tiny"}) if verb == "train" else VERBS_OF_RUNS[verb]
    shutil.copytree(ground.run, folder / "run")
    return folder / "run", VERBS_OF_RUNS[verb]


def _runs(ground: Ground, draws: random.Random) -> Iterator[Input]:
    files = sorted(str(file.relative_to(ground.run)) for file in ground.run.rglob("*") if file.is_file())
    spoils: Mapping[str, Callable[[Path, random.Random], object]] = {
        "gone": lambda file, draws: file.unlink(),
        "empty": lambda file, draws: file.write_bytes(b""),
        "cut": lambda file, draws: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        "flipped": lambda file, draws: file.write_bytes(_flipped(file.read_bytes(), draws)),
        "text": lambda file, draws: file.write_text("nothing \x1b[31mred\n"),
        "list": lambda file, draws: file.write_text("[1, 2]"),
        "null": lambda file, draws: file.write_text("null"),
        "deep": lambda file, draws: file.write_text("[" * 100_000),
        "huge number": lambda file, draws: file.write_text('{"fingerprint": ' + "9" * 5000 + "}"),
        "folder": lambda file, draws: (file.unlink(), file.mkdir()),
        "pipe": lambda file, draws: (file.unlink(), os.mkfifo(file)),
        "link to itself": lambda file, draws: (file.unlink(), file.symlink_to(file)),
    }
    for name in [file for file in files if not file.endswith(".lock")]:
        for how, spoil in spoils.items():
            for verb in VERBS_OF_RUNS:
                seed = draws.random()

                def prepare(folder: Path, name=name, spoil=spoil, verb=verb, seed=seed) -> Sequence[str]:
                    run, arguments = _copied(ground, folder, verb)
                    path = run / name
                    content = path.read_bytes()
                    path.unlink()
                    path.write_bytes(content)  # no longer linked to others
                    spoil(path, random.Random(seed))  # noqa: S311  # keeps no secret
                    if verb == "train" and name != "scores.json":
                        (run / "scores.json").unlink()
                    return arguments

                yield Input(verb, f"run: {name} {how}", prepare)


def _flipped(content: bytes, draws: random.Random) -> bytes:
    flipped = bytearray(content)
    for _ in range(8):
        flipped[draws.randrange(len(flipped))] ^= 1 << draws.randrange(8)
    return bytes(flipped)


def _note_checksums(checkpoint: Path) -> None:
    sums = {
        file.name: {"bytes": file.stat().st_size, "crc32": zlib.crc32(file.read_bytes())}
        for file in checkpoint.iterdir()
        if file.name != "checksums.json"
    }
    (checkpoint / "checksums.json").write_text(json.dumps(sums))


def _crafted_checkpoints(ground: Ground) -> Iterator[Input]:
    """Checkpoints of the wrong content whose checksums are right, and networks and scores that say other things."""
    contents: Mapping[str, Any] = {
        "a list": [1, 2],
        "a text": "text",
        "nothing": None,
        "no optimiser": {"epoch": 0, "state_dict": {}},
        "a state of text": {"epoch": "x", "state_dict": "text"},
        "a state of numbers": {"epoch": 0, "state_dict": {"method.backbone.network.conv1.weight": 3}},
        "an epoch of a billion": {"epoch": 10**9, "state_dict": {}, "global_step": -1},
        "keys of numbers": {"epoch": 0, "state_dict": {1: 2}},
    }
    for about, content in contents.items():
        for part in ("training.ckpt", "history.pt", "best.ckpt"):
            for verb in ("evaluate", "export", "train"):

                def prepare(folder: Path, content=content, part=part, verb=verb) -> Sequence[str]:
                    import torch

                    run, arguments = _copied(ground, folder, verb)
                    (newest,) = (run / "checkpoints").glob("epoch-*")
                    (newest / part).unlink()
                    torch.save(content, newest / part)
                    _note_checksums(newest)
                    (run / "scores.json").unlink() if verb == "train" else None
                    return arguments

                if verb == "train" or part != "history.pt":
                    yield Input(verb, f"run: {part} of {about}", prepare)

    for key in ("selfkd_best", "selfkd_processes", "selfkd_steps_per_epoch", "selfkd_threads", "callbacks", "loops"):
        for value in ("x", {}, -1, [1]):

            def changed(folder: Path, key: str = key, value: object = value) -> Sequence[str]:
                import torch

                run, arguments = _copied(ground, folder, "train")
                (newest,) = (run / "checkpoints").glob("epoch-*")
                content = torch.load(newest / "training.ckpt", weights_only=True)
                (newest / "training.ckpt").unlink()
                torch.save({**content, key: value}, newest / "training.ckpt")
                _note_checksums(newest)
                (run / "scores.json").unlink()
                return arguments

            yield Input("train", f"run: training.ckpt with {key} {value!r}", changed)

    def renamed(folder: Path) -> Sequence[str]:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        run, _ = _copied(ground, folder, "predict")
        path = run / "model.safetensors"
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()["selfkd"])
        metadata["class_names"] = ["\x1b[2J\x1b[31mred", "a\nselfkd: all is well"]
        save_file(load_file(path), path, {"selfkd": json.dumps(metadata)})
        return ["predict", "run", "image.png", "--top", "2"]

    yield Input("predict", "run: class names with escapes", renamed)


def _crafted_notes(ground: Ground) -> Iterator[Input]:
    """Notes of a run that are whole, and say what cannot be."""
    boxes = {"boxes": {"mean_average_precision": {"value": 41.2, "unit": "%", "n": 30}}}
    of_data: Mapping[str, Mapping[str, Any]] = {
        "one class": {"class_names": ["0"]},
        "no classes": {"class_names": []},
        "other classes": {"class_names": ["0", "1", "2"]},
        "no images": {"num_samples": 0},
        "10^15 images": {"num_samples": 10**15},
        "10^23 images": {"num_samples": 10**23},
        "half an image": {"num_samples": 0.5},
        "images of 10^23 pixels": {"input_size": [3, 10**23, 10**23]},
        "larger images": {"input_size": [3, 32, 32]},
        "images of no size": {"input_size": None},
        "labels of no class": {"labels": [7] * 8},
        "one label": {"labels": [0]},
    }
    of_scores: Mapping[str, Callable[[dict[str, Any]], object]] = {
        "no images": lambda scores: scores["splits"]["train"].update(images=0),
        "10^15 images": lambda scores: scores["splits"]["train"].update(images=10**15),
        "one class": lambda scores: scores.update(class_names=["0"]),
        "another task": lambda scores: scores["last"]["scores"].update(test=boxes, train=boxes),
        "no splits": lambda scores: scores["last"].update(scores={}),
    }
    for verb in VERBS_OF_RUNS:
        for about, changed in of_data.items():

            def noted(folder: Path, changed: Mapping[str, Any] = changed, verb: str = verb) -> Sequence[str]:
                run, arguments = _copied(ground, folder, verb)
                _rewritten(run / "data.json", lambda record: record.update(changed))
                (run / "scores.json").unlink()  # which says it too
                return arguments

            yield Input(verb, f"run: data.json of {about}", noted)
        for about, change in of_scores.items():

            def scored(folder: Path, change: Callable[[Any], object] = change, verb: str = verb) -> Sequence[str]:
                run, arguments = _copied(ground, folder, verb)
                _rewritten(run / "scores.json", change)
                older = ("num_samples", "input_size", "class_names")
                _rewritten(run / "data.json", lambda record: [record.pop(key) for key in older])
                return arguments

            yield Input(verb, f"run: scores.json of {about}", scored)


def _rewritten(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(file.read_text())
    change(record)
    file.unlink()  # linked to others
    file.write_text(json.dumps(record))


def _checked_and_trained(
    kind: str, data: str, spoils: Mapping[str, Callable[[Path], object]], checked: Sequence[str], train_per_class: int
) -> Iterator[Input]:
    """Each spoilt folder `data`, examined and trained on.

    Args:
        kind: what is spoilt, in words.
        data: name of the data set that reads it.
        spoils: what is wrong, and what makes it so in a folder.
        checked: options of the examination.
        train_per_class: images of each class in the training.
    """
    options = {**OF_FILES, "data": data, "data.root": "data", "data.classes": "2"}
    arguments = {
        "check": ["check", "data", *checked],
        "train": _training({**options, "data.train_per_class": str(train_per_class)}),
    }
    for about, spoil in spoils.items():
        for verb, given in arguments.items():

            def prepare(
                folder: Path, spoil: Callable[[Path], object] = spoil, given: Sequence[str] = given
            ) -> Sequence[str]:
                spoil(folder)
                return given

            yield Input(verb, f"{kind}: {about}", prepare)


def _data() -> Iterator[Input]:
    def png(folder: Path, *names: str) -> None:
        from PIL import Image

        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (len(name) % 256, 0, 0)).save(folder / name, "PNG")

    def classes(folder: Path, *labels: str) -> Path:
        for label in labels:
            png(folder / "data" / label, *(f"{number}.png" for number in range(6)))
        return folder / "data"

    spoils: dict[str, Callable[[Path], object]] = {
        "missing": lambda folder: None,
        "empty": lambda folder: (folder / "data").mkdir(),
        "a file": lambda folder: (folder / "data").write_text("text"),
        "a pipe": lambda folder: os.mkfifo(folder / "data"),
        "one class": lambda folder: classes(folder, "a"),
        "empty class": lambda folder: (classes(folder, "a", "b") / "c").mkdir(),
        "text as image": lambda folder: (classes(folder, "a", "b") / "a" / "0.png").write_text("text"),
        "cut image": lambda folder: (classes(folder, "a", "b") / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n"),
        "pipe as image": lambda folder: os.mkfifo(classes(folder, "a", "b") / "a" / "x.png"),
        "folder as image": lambda folder: (classes(folder, "a", "b") / "a" / "x.png").mkdir(),
        "link to itself": lambda folder: (classes(folder, "a", "b") / "a" / "x.png").symlink_to("x.png"),
        "link to the root": lambda folder: (classes(folder, "a", "b") / "c").symlink_to(folder / "data"),
        "link to nothing": lambda folder: (classes(folder, "a", "b") / "a" / "x.png").symlink_to("nowhere.png"),
        "device as image": lambda folder: (classes(folder, "a", "b") / "a" / "x.png").symlink_to("/dev/zero"),
        "huge image": lambda folder: (classes(folder, "a", "b") / "a" / "x.png").write_bytes(_png_header(60000, 60000)),
        "names with escapes": lambda folder: classes(folder, "a\x1b[31m", "b\nselfkd: done"),
        "names that are no text": lambda folder: classes(folder, "a\udcff", "b"),
        "names of spaces": lambda folder: classes(folder, " ", "  "),
        "names of options": lambda folder: classes(folder, "--help", "a=b"),
        "tiny classes": lambda folder: (png(folder / "data" / "a", "0.png"), png(folder / "data" / "b", "0.png")),
        "splits of other classes": lambda folder: (
            png(folder / "data" / "train" / "a", "0.png", "1.png"),
            png(folder / "data" / "train" / "b", "0.png", "1.png"),
            png(folder / "data" / "test" / "c", "0.png", "1.png"),
        ),
    }
    checked = ("data.image_size=16", "backbone=resnet18_cifar")
    yield from _checked_and_trained("data folder", "folder", spoils, checked, train_per_class=1)
    for place in ("/proc", "/dev", "/sys", *PLACES):
        yield Input("check", f"data folder {place[:40]!a}", lambda folder, place=place: ["check", place, "--quick"])
    for value in ("0", "-1", "1000000", "9" * 40, "x", "8.5"):

        def sized(folder: Path, value: str = value) -> Sequence[str]:
            classes(folder, "a", "b")
            return ["check", "data", f"data.image_size={value}"]

        yield Input("check", f"data.image_size={value}", sized)


def _png_header(width: int, height: int) -> bytes:
    """A PNG file that says how large it is, and holds nothing."""
    header = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in chunks
    )


def _images(ground: Ground) -> Iterator[Input]:
    image = next((ground.images / "test").rglob("*.png")).read_bytes()
    contents: Mapping[str, bytes] = {
        "empty": b"",
        "text": b"no image",
        "cut": image[: len(image) // 2],
        "head alone": image[:8],
        "huge": _png_header(100_000, 100_000),
        "of no size": _png_header(0, 0),
        "as large as PIL takes": _png_header(12_000, 12_000),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "GIF head": b"GIF89a\xff\xff\xff\xff",
        "TIFF head": b"II*\0\xff\xff\xff\xff",
        "JPEG head": b"\xff\xd8\xff\xe0",
        "WebP head": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "BMP head": b"BM" + b"\xff" * 60,
        "ICO head": b"\0\0\1\0\xff\xff" + b"\xff" * 60,
        "PPM": b"P6 99999999 99999999 255\n",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    for about, content in contents.items():

        def prepare(folder: Path, content: bytes = content) -> Sequence[str]:
            (folder / "x.png").write_bytes(content)
            (folder / "good.png").write_bytes(image)
            return ["predict", str(ground.run), "x.png", "good.png", "--json"]

        yield Input("predict", f"image: {about}", prepare)
    for place in (*PLACES, "/dev", "*", "**", "[", "x[", "nothing*.png", "**/" * 50 + "*"):
        yield Input("predict", f"image {place[:40]!a}", lambda folder, place=place: ["predict", str(ground.run), place])


def _tables() -> Iterator[Input]:
    def table(folder: Path, columns: Mapping[str, Any], metadata: str | None = None, name: str = "train") -> None:
        import pyarrow
        from pyarrow import parquet

        content = pyarrow.table([*map(pyarrow.array, columns.values())], names=[key.rstrip("*") for key in columns])
        if metadata is not None:
            content = content.replace_schema_metadata({"huggingface": metadata})
        (folder / "data").mkdir(exist_ok=True)
        parquet.write_table(content, folder / "data" / f"{name}-00000-of-00001.parquet")

    def encoded() -> bytes:
        import io

        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, "PNG")
        return file.getvalue()

    def rows(count: int = 12) -> dict[str, Any]:
        return {"image": [{"bytes": encoded(), "path": None}] * count, "label": [0, 1] * (count // 2)}

    wrong_features = json.dumps({"info": {"features": {"pixels": {"_type": "Image"}}}})
    names_twice = {"names": ["a", "a"], "_type": "ClassLabel"}
    twice = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": names_twice}}})
    escapes = twice.replace('"a", "a"', '"\\u001b[31ma", "b\\nselfkd: x"')
    spoils: dict[str, Callable[[Path], object]] = {
        "good": lambda folder: table(folder, rows()),
        "no table": lambda folder: ((folder / "data").mkdir(), (folder / "data" / "train.parquet").write_text("x")),
        "empty": lambda folder: table(folder, {"image": [], "label": []}),
        "bytes of text": lambda folder: table(folder, {**rows(), "image": ["text"] * 12}),
        "bytes of text within": lambda folder: table(folder, {**rows(), "image": [{"bytes": "x", "path": None}] * 12}),
        "bytes of numbers": lambda folder: table(folder, {**rows(), "image": [[1, 2, 3]] * 12}),
        "no image": lambda folder: table(folder, {**rows(), "image": [None] * 12}),
        "damaged image": lambda folder: table(folder, {**rows(), "image": [{"bytes": b"x", "path": None}] * 12}),
        "labels of text": lambda folder: table(folder, {**rows(), "label": ["a", "b"] * 6}),
        "labels of numbers with points": lambda folder: table(folder, {**rows(), "label": [0.5, 1.0] * 6}),
        "labels below 0": lambda folder: table(folder, {**rows(), "label": [-1, 1] * 6}),
        "labels beyond": lambda folder: table(folder, {**rows(), "label": [0, 2**62] * 6}),
        "no label": lambda folder: table(folder, {"image": rows()["image"]}),
        "labels of nothing": lambda folder: table(folder, {**rows(), "label": [None, None] * 6}),
        "two columns of one name": lambda folder: table(folder, {**rows(), "image*": rows()["image"]}),
        "two label columns of one name": lambda folder: table(folder, {**rows(), "label*": [0] * 12}),
        "metadata of other columns": lambda folder: table(folder, rows(), wrong_features),
        "metadata of text": lambda folder: table(folder, rows(), "text"),
        "metadata of a list": lambda folder: table(folder, rows(), "[1]"),
        "metadata of null": lambda folder: table(folder, rows(), '{"info": null}'),
        "deep metadata": lambda folder: table(folder, rows(), "[" * 100_000 + "]" * 100_000),
        "deep features": lambda folder: table(
            folder, rows(), '{"info": {"features": ' + '{"a": ' * 900 + "1" + "}" * 900 + "}}"
        ),
        "class names twice": lambda folder: table(folder, rows(), twice),
        "class names with escapes": lambda folder: table(folder, rows(), escapes),
        "a shard missing": lambda folder: (
            table(folder, rows()),
            (folder / "data" / "train-00000-of-00001.parquet").rename(folder / "data/train-00000-of-00002.parquet"),
        ),
        "a path that leads out": lambda folder: table(
            folder, {**rows(), "image": [{"bytes": None, "path": "../../../etc/passwd"}] * 12}
        ),
    }
    checked = ("data=parquet", "data.image_size=16")
    yield from _checked_and_trained("table", "parquet", spoils, checked, train_per_class=2)


def _csv_files(ground: Ground) -> Iterator[Input]:
    """Spoilt CSV files, examined, trained on and evaluated. Each is called `labels.csv`."""
    images = sorted(map(str, ground.images.rglob("*.png")))
    rows = "".join(f"{image},{Path(image).parent.name}\n" for image in images)
    contents: Mapping[str, str | bytes] = {
        "good": f"path,label\n{rows}",
        "empty": "",
        "columns alone": "path,label\n",
        "no columns": rows,
        "unusual columns": f"bild,art\n{rows}",
        "a column twice": f"path,path\n{rows}",
        "a missing field": f"path,label\n{rows}{images[0]}\n",
        "an empty label": f"path,label\n{rows}{images[0]},\n",
        "spaces as a label": f"path,label\n{rows}{images[0]},  \n",
        "two labels": f"path,label\n{rows}{images[0]},other\n",
        "a missing image": f"path,label\n{rows}nowhere.png,other\n",
        "a folder as image": f"path,label\n{rows}.,other\n",
        "a device as image": f"path,label\n{rows}/dev/zero,other\n",
        "itself as image": f"path,label\n{rows}labels.csv,other\n",
        "a null byte": f"path,label\n{rows}a\0.png,other\n",
        "a long path": f"path,label\n{rows}{'x' * 5000}.png,other\n",
        "a long field": f"path,label\n{rows}a.png,{'x' * 200_000}\n",
        "an open quote": f'path,label\n{rows}"a.png,other\n',
        "escapes": f"path,label\n{rows}a\x1b[2J.png,\x1b[31mred\n",
        "another encoding": f"path,label\n{rows}é.png,other\n".encode("latin-1"),
        "bytes of an image": _png_header(16, 16),
        "a split alone": "path,label,split\n" + rows.replace("\n", ",train\n"),
        "unknown splits": "path,label,split\n" + rows.replace("\n", ",x\x1b[2J\n"),
        "many columns": ",".join(map(str, range(100_000))) + "\n",
    }
    of_table = {**OF_FILES, "data": "csv", "data.root": "labels.csv", "data.classes": "2", "data.train_per_class": "1"}
    lines: Mapping[str, Sequence[str]] = {
        "check": ("check", "labels.csv", "data.image_size=16"),
        "train": _training(of_table),
        "evaluate": ("evaluate", str(ground.run), "--data", "labels.csv", "--data", "labels.csv"),
    }
    for about, content in contents.items():
        for verb, line in lines.items():

            def prepare(folder: Path, content: str | bytes = content, line: Sequence[str] = line) -> Sequence[str]:
                (folder / "labels.csv").write_bytes(content.encode() if isinstance(content, str) else content)
                return line

            yield Input(verb, f"CSV file: {about}", prepare)


def _files_of_weights(ground: Ground) -> Iterator[Input]:
    """Spoilt files of weights that a network, or a peer, is to start from."""

    def good() -> bytes:
        return (ground.run / "model.safetensors").read_bytes()

    def saved(content: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
        def write(file: Path) -> None:
            import torch
            from safetensors.torch import load

            torch.save(content(load(good())), file)

        return write

    def nested(weights: object) -> object:
        for _ in range(200):
            weights = {"model": weights}
        return weights

    spoils: dict[str, Callable[[Path], object]] = {
        "missing.pth": lambda file: None,
        "empty.safetensors": lambda file: file.touch(),
        "empty.pth": lambda file: file.touch(),
        "text.pth": lambda file: file.write_text("text"),
        "cut.safetensors": lambda file: file.write_bytes(good()[:10_000]),
        "of another format.pth": lambda file: file.write_bytes(good()),
        "of a forged length.safetensors": lambda file: file.write_bytes(b"\xff" * 8 + good()[8:]),
        "a pipe.pth": os.mkfifo,
        "a folder.pth": Path.mkdir,
        "a link to itself.pth": lambda file: file.symlink_to(file.name),
        "a device.pth": lambda file: file.symlink_to("/dev/zero"),
        "code.pth": lambda file: file.write_bytes(b"cos\nsystem\n(S'true'\ntR."),
        "a list.pth": saved(lambda weights: [*weights.values()]),
        "a number.pth": saved(lambda weights: 3),
        "nothing.pth": saved(lambda weights: {}),
        "deep.pth": saved(nested),
        "two networks.pth": saved(lambda weights: {f"{net}.{key}": weights[key] for net in "ab" for key in weights}),
        "keys of numbers.pth": saved(lambda weights: dict(enumerate(weights.values()))),
        "keys with escapes.pth": saved(lambda weights: weights | {"\x1b[2J": weights["fc.bias"]}),
        "half.pth": saved(lambda weights: dict([*weights.items()][::2])),
        "of another shape.pth": saved(lambda weights: {key: value[None] for key, value in weights.items()}),
        "infinite.pth": saved(lambda weights: {key: value / 0 for key, value in weights.items()}),
    }
    for about, spoil in spoils.items():
        for section, method in (("backbone", "plain"), ("peer", "dml")):
            line = ["train", "demo/digits/resnet18/plain", *_written({**TINY, "method": method}), "--no-progress"]

            def prepare(
                folder: Path,
                spoil: Callable[[Path], object] = spoil,
                about: str = about,
                given: str = section,
                line: Sequence[str] = line,
            ) -> Sequence[str]:
                spoil(folder / about)
                return [*line, f"{given}.weights={about}"]

            yield Input("train", f"{section}.weights: {about}", prepare)


def _names_and_places(ground: Ground) -> Iterator[Input]:
    run, image = str(ground.run), str(next((ground.images / "test").rglob("*.png")))
    for name in NAMES:
        yield Input("train", f"name={name[:30]!a}", lambda folder, name=name: _training({"name": name}))
    lines: Mapping[str, Sequence[str]] = {
        "the run": ("evaluate", "{}"),
        "the run to predict with": ("predict", "{}", image),
        "the run to export": ("export", "{}"),
        "data.root": ("evaluate", run, "data.root={}"),
        "--data of evaluate": ("evaluate", run, "--data={}"),
        "--runs": (*_training({}), "--runs={}"),
        "the runs to list": ("list", "runs", "{}"),
        "--output of export": ("export", run, "--output={}"),
        "--output of predict": ("predict", run, image, "--output={}"),
    }
    for place in PLACES:
        for about, line in lines.items():
            # What may be written to is in the input's own folder: on an older version, root would replace /dev/null.
            if not (about.startswith("--") and place.startswith("/")):
                arguments = [word.replace("{}", place) for word in line]
                yield Input(line[0], f"{about}: {place[:30]!a}", lambda folder, given=arguments: given)
    for about, line in lines.items():

        def pipe(folder: Path, line: Sequence[str] = line) -> Sequence[str]:
            os.mkfifo(folder / "pipe")
            return [word.replace("{}", "pipe") for word in line]

        yield Input(line[0], f"{about}: a pipe", pipe)


def _flags(ground: Ground) -> Iterator[Input]:
    image = str(next((ground.images / "test").rglob("*.png")))
    for line in LINES.splitlines():
        words = [{"RUN": "run", "IMAGE": image}.get(word, word) for word in line.split()]
        verb = words[0] if words[0] in _VERBS else "list"

        def prepare(folder: Path, words: Sequence[str] = words) -> Sequence[str]:
            if "run" in words:  # an evaluation writes into its run
                shutil.copytree(ground.run, folder / "run")
            return words

        yield Input(verb, f"line: {line}", prepare)
