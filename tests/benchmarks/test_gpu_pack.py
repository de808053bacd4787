import pytest

from selfkd.data.sources.cifar import CIFAR100


def test_parts_keep_to_their_size_and_hold_the_same_data(benchmark, digits_as_cifar100, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "ROWS", 16)
    limit = 16_000
    parts = benchmark.pack_data(digits_as_cifar100, tmp_path / "out", limit)
    assert len(parts) > 1
    together = tmp_path / "together"
    together.mkdir()
    for part in parts:
        assert sum(file.stat().st_size for file in part.iterdir()) <= limit
        for file in part.iterdir():
            file.rename(together / file.name)
    before, after = (CIFAR100(root=str(root)).load(0) for root in (digits_as_cifar100, together))
    assert after.fingerprint() == before.fingerprint()
    assert after.class_names == before.class_names
    assert benchmark.pack_data(digits_as_cifar100, tmp_path / "out", limit) == parts, "older parts are replaced"


def test_a_file_that_fits_no_part_is_refused(benchmark, digits_as_cifar100, tmp_path):
    with pytest.raises(ValueError, match="lower ROWS"):
        benchmark.pack_data(digits_as_cifar100, tmp_path / "out", 100)
