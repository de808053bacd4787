import json

import pytest
import torch


def test_it_measures_every_variant_and_says_so_at_once(benchmark, capsys):
    names = list(benchmark.VARIANTS)
    kept = []
    record = benchmark.measure(
        names, "32", "cpu", batch_size=4, width=8, rounds=2, memory=False, keep=lambda r: kept.append(list(r["rows"]))
    )
    assert kept == [names[: count + 1] for count in range(len(names))], "after each, all that there is"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines] == names
    assert all("s an epoch of 12500 steps" in line for line in lines)
    assert list(record["rows"]) == names
    assert record["rows"]["plain"]["relative"] == 1
    assert all(len(row["rounds"]) == 2 and min(row["rounds"]) > 0 for row in record["rows"].values())
    page = benchmark.page([record])
    for name in names:
        assert f"| {name} " in page
    assert benchmark.key_of(json.loads(json.dumps(record))) == benchmark.key_of(record)


def test_the_command_adds_a_record_and_replaces_it(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "memory_of", lambda *_: 1.0)
    small = ["--batch", "4", "--width", "8", "--rounds", "1", "--device", "cpu", "--methods", "teskd"]
    for precision in ("32", "32", "bf16-mixed"):
        assert elsewhere.main([*small, "--precision", precision]) == 0
    records = elsewhere.REPORT.read()
    assert [record["precision"] for record in records] == ["32", "bf16-mixed"]
    assert list(records[0]["rows"]) == ["plain", "teskd"]
    assert records[0]["rows"]["teskd"]["peak_memory_mb"] == 1
    assert elsewhere.REPORT.page_file.read_text().startswith(elsewhere.page(records))


@pytest.mark.slow
def test_memory_is_that_of_the_steps_alone(benchmark):
    small = benchmark.memory_of("plain", 64, "32", 16)
    large = benchmark.memory_of("teskd", 64, "32", 16)
    assert 1 < small < large


def test_the_command_measures_writes_and_merges(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "memory_of", lambda *_: 1.0)
    size = ["--batch", "4", "--width", "8", "--rounds", "2", "--threads", "1", "--device", "cpu"]
    assert elsewhere.main([*size, "--methods", "ps_kd"]) == 0
    (first, second) = elsewhere.REPORT.read()
    assert (first["precision"], second["precision"]) == ("32", "bf16-mixed")
    assert list(first["rows"]) == ["plain", "ps_kd"]
    fetched = tmp_path / "fetched.json"
    fetched.write_text(json.dumps([{**first, "device": "cuda"}, {**second, "huge_pages": None}]))
    assert elsewhere.main(["--merge", str(fetched)]) == 0
    records = elsewhere.REPORT.read()
    assert [record["device"] for record in records] == ["cpu", "cuda", "cpu"]
    assert records[2]["huge_pages"] is None, "the newer of two"
    assert "## cuda, 32, eager, batch 4" in elsewhere.REPORT.page_file.read_text()


def test_what_fails_is_left_out_and_said(benchmark, capsys, monkeypatch):
    def broken(method):
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(benchmark.VARIANTS, "dtskd", benchmark.Variant("dtskd", change=broken))
    names = ["dtskd", "ps_kd"]
    record = benchmark.measure(names, "32", "cpu", batch_size=4, width=8, rounds=1, memory=False)
    assert list(record["rows"]) == ["plain", "ps_kd"]
    assert "failed: dtskd" in capsys.readouterr().out


def test_a_measured_step_reads_what_was_remembered(benchmark):
    step = benchmark.Step(benchmark.VARIANTS["dtskd"], 4, "32", "cpu", 8)
    written = step.method.memories["history"].state_dict()["written"]
    assert written[step.batch.indices].all()
    assert not written.all(), "of a batch's samples alone"
    assert step.progress.epoch == 1


def test_records_of_before_there_were_modes_are_read(benchmark):
    row = {"seconds": 1.0, "relative": 1.0, "rounds": [1.0], "peak_memory_mb": None}
    place = {"threads": 1, "device": "made up", "packages": {"torch": "0.0"}}
    old = {"device": "cpu", "precision": "32", "compiled": True, "batch_size": 4, "width": 8, "environment": place}
    old["rows"] = {"plain": row, "dtskd": {**row, "relative": 1.1}}
    new = {**old, "device": "cuda", "compiled": "reduce-overhead"}
    page = benchmark.page([old, new])
    assert "## cpu, 32, compiled, batch 4" in page
    assert "## cuda, 32, compiled (reduce-overhead), batch 4" in page
    assert " cuda, compiled (reduce-overhead), 32, batch 4 " in page, "measured against the aims as a CPU's is"
    by_jemalloc = {**old, "jemalloc": True}
    assert "## cpu, 32, compiled with jemalloc, batch 4" in benchmark.page([old, by_jemalloc])
    assert benchmark.merged([old], [by_jemalloc]) == [old, by_jemalloc], "both stay"
    assert benchmark.merged([old, new], [{**old, "compiled": "default"}]) == [new, {**old, "compiled": "default"}]


def test_all_but_the_first_step_are_compiled_as_the_trainer_does(benchmark, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda method, **options: compiled.append(options))
    record = benchmark.measure(["ps_kd"], "32", "cpu", batch_size=4, width=8, rounds=1, mode="reduce-overhead")
    assert compiled == [{"fullgraph": True, "mode": "reduce-overhead"}] * 2
    assert record["compiled"] == "reduce-overhead"
    assert [row["peak_memory_mb"] for row in record["rows"].values()] == [None, None]
