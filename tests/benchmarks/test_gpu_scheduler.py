import re
import signal

import pytest
from simulated_device import SimulatedDevice

PLAIN, DTSKD = "dtskd/cifar100/resnet18/plain", "dtskd/cifar100/resnet18/dtskd"  # 300 epochs
LOTH = "loth/cifar100/resnet18/loth"  # 200 epochs


@pytest.fixture
def call(benchmark, records, tmp_path):
    """One call of the queue on a device; returns what it brings back."""
    bundles = []

    def call(device, recipes, known=None, place=None, poll=1.0, retry=False, **limits):
        bundles.append(benchmark.Bundle(tmp_path / f"out{len(bundles)}"))
        items = [benchmark.Item(name, 0) for name in recipes]
        paces = known or benchmark.Paces("simulated", [benchmark.Pace(**vars(p)) for p in records.read_paces(tmp_path)])
        scheduler = benchmark.Scheduler(
            items,
            benchmark.Limits(**{"grace": 20, "start": 15, "end": 15, "probe": 60, **limits}),
            tmp_path,
            bundles[-1],
            paces,
            place or benchmark.Place("nowhere"),
            start=device.start,
            clock=device.clock,
            sleep=device.sleep,
            poll=poll,
            retry=retry,
        )
        started = device.now
        scheduler.work()
        assert device.now - started <= limits["now"]
        assert all(process.status is not None for process in device.processes), "nothing is left running"
        return bundles[-1].content, scheduler

    return call


def names(content):
    return [record["scores"]["recipe"] for record in content["runs"]]


def test_items_are_trained_in_their_order_as_long_as_they_fit(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    content, _ = call(device, [PLAIN, DTSKD, LOTH], now=560)
    # 300 s, 300 s and 200 s: the second is tried, found not to fit, and makes room for the third.
    assert [name for name, _ in device.started] == [PLAIN, DTSKD, LOTH]
    assert names(content) == [PLAIN, LOTH]
    pace = content["paces"][0]
    assert pace["recipe"] == PLAIN
    assert pace["seconds_per_epoch"] == pytest.approx(1, abs=0.05)
    assert content["runs"][0]["pace"] == pace
    assert "stopped" in capsys.readouterr().out


def test_what_is_known_not_to_finish_is_not_started(call, benchmark, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=2.0)
    paces = benchmark.Paces("simulated", [benchmark.Pace(PLAIN, "simulated", 1, 2.0, 300)])
    content, _ = call(device, [PLAIN], known=paces, now=600)
    assert device.started == []
    assert content["runs"] == []
    assert "not started" in capsys.readouterr().out


def test_paces_of_another_device_say_nothing(benchmark):
    paces = benchmark.Paces("simulated", [benchmark.Pace(PLAIN, "another", 1, 2.0, 300)])
    assert paces.seconds_per_epoch(PLAIN, 1) is None


def test_the_unknown_is_tried_and_stopped_once_it_is_known_not_to_fit(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=10.0)
    content, _ = call(device, [PLAIN], now=600)
    assert device.now < 100, "a few epochs tell"
    assert [pace["seconds_per_epoch"] for pace in content["paces"]] == [pytest.approx(10, abs=0.5)]
    assert "still needs" in capsys.readouterr().out
    content, _ = call(device, [PLAIN], now=600)
    assert len(device.started) == 1, "its pace is remembered with the runs"


def test_nothing_unknown_is_tried_in_the_last_minute_unless_calls_follow(call, records):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    call(device, [PLAIN], now=70)
    assert device.started == []
    call(device, [PLAIN], now=30, later=600)
    assert device.started == [], "too little is left to start in"
    call(device, [PLAIN], now=70, later=600)
    assert len(device.started) == 1


@pytest.mark.parametrize(("seconds_per_epoch", "fits"), [(1.5, True), (1.6, True), (1.9, False)])
def test_what_just_fits_is_not_stopped(call, records, seconds_per_epoch, fits):
    device = SimulatedDevice(records, seconds_per_epoch, waits=(25,))
    content, _ = call(device, [DTSKD], now=552, start=25, end=20, poll=0.25)
    assert names(content) == ([DTSKD] if fits else [])
    assert (device.now < 100) == (not fits), "and what surely does not is stopped soon"


@pytest.mark.parametrize("seconds_per_epoch", [1.65, 1.7])
def test_where_it_is_close_more_epochs_are_measured(call, benchmark, records, seconds_per_epoch, monkeypatch):
    """Within its error the pace does not decide."""
    monkeypatch.setattr(benchmark.Training, "error_of_pace", lambda *_: 0.1)
    device = SimulatedDevice(records, seconds_per_epoch, waits=(25,))
    content, _ = call(device, [DTSKD], now=552, start=25, end=20, poll=0.25)
    assert content["paces"][0]["epochs"] >= benchmark.CLOSE_EPOCHS


def test_the_error_of_a_pace_falls_with_the_epochs_seen(benchmark, records, tmp_path):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    item, place = benchmark.Item(PLAIN, 0), benchmark.Place("nowhere")
    recipe = benchmark.recipe_of(item, place)
    folder = benchmark.RunFolder.of(recipe, tmp_path)
    training = benchmark.Training(item, recipe, folder, device.start(item, folder, tmp_path, place), 0.0, unknown=True)
    errors = {}
    for _ in range(80):
        device.sleep(0.3)
        training.observe(device.now)
        if training.seconds_per_epoch() is not None:
            errors[training.measured_epochs()] = training.error_of_pace(0.3)
    assert training.seconds_per_epoch() == pytest.approx(1.0, abs=0.02)
    assert errors[20] < errors[3]
    assert errors[20] == pytest.approx(0.3 / 20, abs=0.001)


def test_compilation_is_no_part_of_a_pace_and_has_paces_of_its_own(call, benchmark, records):
    device = SimulatedDevice(records, seconds_per_epoch=1.2, waits=(50, 40))
    eager = benchmark.Paces("simulated", [benchmark.Pace(DTSKD, "simulated", 1, 9.0, 300)])
    place = benchmark.Place("nowhere", compiled="true")
    content, _ = call(device, [DTSKD], known=eager, place=place, now=552, compilation=90)
    assert names(content) == [DTSKD]
    (pace,) = content["paces"]
    assert pace["compiled"] == "default"
    assert pace["seconds_per_epoch"] == pytest.approx(1.2, abs=0.01)
    assert pace["seconds_to_start"] == pytest.approx(90, abs=2)


def test_a_compiled_training_is_not_started_without_time_to_compile(call, benchmark, records, capsys):
    place = benchmark.Place("nowhere", compiled="reduce-overhead")
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    call(device, [PLAIN], place=place, now=140, compilation=120)
    assert device.started == []
    assert "takes 135 s to start" in capsys.readouterr().out
    known = benchmark.Paces("simulated", [benchmark.Pace(PLAIN, "simulated", 1, 0.1, 9, "reduce-overhead", 30.0)])
    call(device, [PLAIN], known=known, place=place, now=140, compilation=120)
    assert len(device.started) == 1, "measured, a start is known to be quicker"


def test_the_rest_is_counted_from_the_last_checkpoint(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=5.0)
    call(device, [PLAIN], now=558, later=3000)
    assert "unfinished: dtskd/cifar100/resnet18/plain seed 0 after epoch 100" in capsys.readouterr().out
    call(device, [PLAIN], now=1020)  # enough for what the log lacks, not for what the checkpoint does
    assert len(device.started) == 1
    assert re.search(r"needs 101\d s; 1000 s left", capsys.readouterr().out)
    content, _ = call(device, [PLAIN], now=1040)
    assert re.search(r"after epoch 100; needs about 101\d s", capsys.readouterr().out)
    assert names(content) == [PLAIN]
    assert content["paces"][0]["seconds_per_epoch"] == pytest.approx(5, abs=0.1)


def test_a_later_call_continues_what_did_not_finish(call, records):
    device = SimulatedDevice(records, seconds_per_epoch=3.0)
    content, _ = call(device, [PLAIN], now=600, later=600)
    assert content["runs"] == []
    assert device.now == pytest.approx(580, abs=2), "all of the call is used, but for the time to stop in"
    content, _ = call(device, [PLAIN], now=600)
    assert names(content) == [PLAIN]
    assert device.now < 580 + 400, "the second call trains the rest alone"
    content, _ = call(device, [PLAIN], now=600)
    assert names(content) == [PLAIN], "what is finished and not in the repository is brought back again"
    assert len(device.started) == 2


def test_the_rest_that_does_not_fit_the_last_call_is_left(call, records):
    device = SimulatedDevice(records, seconds_per_epoch=3.0)
    call(device, [PLAIN], now=600, later=600)
    call(device, [PLAIN], now=200)
    assert len(device.started) == 1


@pytest.mark.parametrize(("slowdown", "faster"), [(lambda count: 1 + 0.2 * (count - 1), True), (float, False)])
def test_side_by_side_is_chosen_where_it_is_measured_to_be_faster(call, records, slowdown, faster):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, slowdown=slowdown)
    content, _ = call(device, [PLAIN, DTSKD], now=1400, parallel=2)
    assert sorted(names(content)) == sorted([PLAIN, DTSKD])
    assert device.most == 2
    (choice,) = content["side_by_side"]
    assert (choice["gain"] > 1.05) == faster
    assert len(device.started) == (2 if faster else 3), "the second was stopped, and continued when the first was done"
    assert (device.now < 420) == faster


def test_no_second_training_is_started_that_could_make_the_first_miss_its_time(call, benchmark, records):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    paces = benchmark.Paces("simulated", [benchmark.Pace(DTSKD, "simulated", 1, 0.1, 300)])
    content, _ = call(device, [PLAIN, DTSKD], known=paces, now=400, parallel=2)
    assert names(content)[0] == PLAIN
    _, start = device.started[1]
    assert start >= 235, "half as fast, what is left of the first fits only now"


def test_one_failure_does_not_stop_the_others(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, fails=(PLAIN,))
    content, scheduler = call(device, [PLAIN, LOTH], now=600)
    assert names(content) == [LOTH]
    assert [item.recipe for item in scheduler.failed] == [PLAIN]
    assert "out of memory" in capsys.readouterr().out


def test_a_failed_training_is_not_repeated_by_every_call(call, benchmark, records, capsys, monkeypatch):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, fails=(PLAIN,))
    call(device, [PLAIN, LOTH], now=600)
    call(device, [PLAIN], now=600)
    assert [name for name, _ in device.started] == [PLAIN, LOTH]
    assert "failed in an earlier call" in capsys.readouterr().out
    call(device, [PLAIN], now=600, retry=True)
    call(device, [PLAIN], now=600, place=benchmark.Place("nowhere", compiled="true"))
    assert len(device.started) == 4, "told to, or trained otherwise, it is tried again"
    monkeypatch.setattr(benchmark, "source_digest", lambda: "mended")
    call(device, [PLAIN], now=600)
    assert len(device.started) == 5


def test_where_everything_fails_the_call_ends_soon(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, fails=(PLAIN, DTSKD, LOTH))
    call(device, [PLAIN, DTSKD, LOTH, "loth/cifar100/resnet18/plain"], now=600)
    assert [name for name, _ in device.started] == [PLAIN, DTSKD, LOTH]
    assert "3 trainings in a row failed" in capsys.readouterr().out
    device.fails = ()
    content, _ = call(device, [PLAIN], now=600)
    assert names(content) == [PLAIN], "which was not held against it"


def test_the_call_begins_with_its_process(benchmark, records, tmp_path):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    times = {"clock": device.clock, "sleep": device.sleep, "started": -400.0}
    limits, bundle = benchmark.Limits(now=600), benchmark.Bundle(tmp_path / "out")
    paces = benchmark.Paces("simulated", [benchmark.Pace(PLAIN, "simulated", 1, 1.0, 9)])
    items, place = [benchmark.Item(PLAIN, 0)], benchmark.Place("nowhere")
    benchmark.Scheduler(items, limits, tmp_path, bundle, paces, place, start=device.start, **times).work()
    assert device.started == [], "400 of the 600 s are gone"


def test_all_that_do_not_stop_have_one_grace_together(call, benchmark, records):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, slowdown=lambda count: 1.0, deaf=True)
    call(device, [PLAIN, DTSKD], now=200, later=900, parallel=2)
    assert [process.signals for process in device.processes] == [[signal.SIGINT, signal.SIGKILL]] * 2
    assert device.now == pytest.approx(200, abs=1)


def test_a_training_that_does_not_stop_is_killed(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=3.0, deaf=True)
    call(device, [PLAIN], now=300, later=900)
    assert device.processes[0].signals == [signal.SIGINT, signal.SIGKILL]
    assert "unfinished" in capsys.readouterr().out
