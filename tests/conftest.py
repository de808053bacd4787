"""What every test may use. Two threads at most, and real data where the workplace has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from image_sets import positions_of, save_digit, write_parquet
from selfkd.cli import main

torch.set_num_threads(min(2, torch.get_num_threads()))

SHARED_DATA = Path(os.environ.get("SELFKD_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def own_modules_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a test adds to where modules are looked for is in no other test's way."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def _shared(name: str) -> Path:
    """A folder of real data; the test is skipped where there is none."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name}/ is not there; set SELFKD_SHARED_DATA to the folder that holds it")
    return folder


@pytest.fixture
def cifar100_root() -> Path:
    """The real CIFAR-100."""
    return _shared("cifar100")


@pytest.fixture
def bccd_root() -> Path:
    """Real photographs of blood cells, with a box around each cell."""
    return _shared("bccd")


@pytest.fixture
def photographs(bccd_root: Path) -> list[Path]:
    """Six of them, of 640x480 pixels."""
    return sorted((bccd_root / "JPEGImages").glob("*.jpg"))[:6]


@pytest.fixture
def digits_as_cifar100(tmp_path: Path) -> Path:
    """Real digits in CIFAR-100's Parquet layout: 60 for training in two files, 20 for testing, ten classes."""
    root = tmp_path / "parquet"
    for name, positions in {
        "train-00000-of-00002": range(30),
        "train-00001-of-00002": range(30, 60),
        "test-00000-of-00001": range(60, 80),
    }.items():
        write_parquet(root / f"{name}.parquet", positions, ("img", "fine_label"))
    return root


@pytest.fixture
def digits_as_imagenet(tmp_path: Path) -> Path:
    """Real digits in ImageNet's layout: the classes n0, n1, n2 with 7 JPEG files each for training and 3 for testing.

    One is greyscale and one CMYK, as some of ImageNet's are.
    """
    root = tmp_path / "imagenet"
    for digit in range(3):
        for rank, position in enumerate(positions_of(digit, 10)):
            split = "train" if rank < 7 else "val"
            mode = {(0, 0): "L", (1, 0): "CMYK"}.get((digit, rank), "RGB")
            save_digit(root / split / f"n{digit}" / f"{position}.JPEG", position, mode)
    return root


@pytest.fixture
def published_vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`published_vit(num_classes)`: timm's `test_vit` has pretrained weights of so many classes, without a download."""
    create = timm.create_model

    def publish(num_classes: int) -> None:
        weights = tmp_path / "weights.pth"
        torch.save(create("test_vit", num_classes=num_classes).state_dict(), weights)
        published = {"file": str(weights), "hf_hub_id": None, "url": None, "num_classes": num_classes}

        def from_file(name: str, pretrained: bool, **options: object) -> object:
            return create(name, pretrained, pretrained_cfg_overlay=published if pretrained else None, **options)

        monkeypatch.setattr(timm, "create_model", from_file)

    return publish


@pytest.fixture
def selfkd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The real command in a process of its own, in an empty folder."""

    def call(*arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "selfkd", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process, which spares the start of another, in an empty folder: status, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call
