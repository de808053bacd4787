import pytest

from selfkd import main_memory
from selfkd.main_memory import free_main_memory

V1 = {
    "limit": "memory/memory.limit_in_bytes",
    "used": "memory/memory.usage_in_bytes",
    "statistics": "memory/memory.stat",
    "prefix": "total_",
}
V2 = {"limit": "memory.max", "used": "memory.current", "statistics": "memory.stat", "prefix": ""}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Files as Linux has them: `machine.write(name, text)`, below `meminfo` or a container's folder."""
    monkeypatch.setattr(main_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(main_memory, "_CGROUPS", tmp_path)

    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{text}\n")

    write(
        "meminfo", "MemTotal:       64000 kB\nMemFree:         1000 kB\nMemAvailable:    4000 kB\nHugePages_Total:  0"
    )
    return write


def test_it_is_a_part_of_what_this_machine_has():
    free = free_main_memory()
    assert free is None or 10**7 < free < 10**15


@pytest.mark.parametrize("names", [V1, V2], ids=["version 1", "version 2"])
def test_a_container_leaves_what_is_not_used(machine, names):
    assert free_main_memory() == 4_096_000
    machine(names["limit"], 5000)
    assert free_main_memory() == 5000, "of which it is not said how much is used"
    machine(names["used"], 4900)
    assert free_main_memory() == 100
    machine(names["used"], 5001)
    assert free_main_memory() == 0, "never less"
    machine(names["limit"], 10**12)
    assert free_main_memory() == 4_096_000, "the machine has less"


@pytest.mark.parametrize("names", [V1, V2], ids=["version 1", "version 2"])
def test_what_is_kept_of_files_is_free(machine, names):
    machine(names["limit"], 5000)
    machine(names["used"], 4900)
    of_files = {"anon": 900, "file": 4000, "inactive_anon": 900, "active_file": 1000, "inactive_file": 2500}
    machine(names["statistics"], "\n".join(f"{names['prefix']}{name} {size}" for name, size in of_files.items()))
    assert free_main_memory() == 3600


def test_a_container_without_a_limit_has_what_the_machine_has(machine):
    machine("memory.max", "max")
    machine("memory.current", 10**9)
    machine("memory/memory.limit_in_bytes", 9223372036854771712)
    machine("memory/memory.usage_in_bytes", 10**9)
    assert free_main_memory() == 4_096_000


def test_without_linux_it_is_what_the_machine_has(machine, monkeypatch, tmp_path):
    (tmp_path / "meminfo").unlink()
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 3, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert free_main_memory() == 12_288
    monkeypatch.delattr("os.sysconf")
    assert free_main_memory() is None, "where nobody says"
