import signal

import pytest
from simulated_device import SimulatedDevice

from benchmark_files import load_benchmark

PLAIN, DTSKD = "dtskd/cifar100/resnet18/plain", "dtskd/cifar100/resnet18/dtskd"  # 300 epochs
LOTH = "loth/cifar100/resnet18/loth"  # 200 epochs


@pytest.fixture
def module():
    return load_benchmark("gpu/scheduler")


@pytest.fixture
def records(module):
    return load_benchmark("gpu/run_records")


@pytest.fixture
def call(module, records, tmp_path):
    """One call of the queue on a device; returns what it brings back."""
    bundles = []

    def call(device, recipes, known=None, **limits):
        bundles.append(module.Bundle(tmp_path / f"out{len(bundles)}"))
        items = [module.Item(name, 0) for name in recipes]
        paces = known or module.Paces("simulated", [module.Pace(**vars(p)) for p in records.read_paces(tmp_path)])
        scheduler = module.Scheduler(
            items,
            module.Limits(**{"grace": 20, "overhead": 30, "probe": 60, **limits}),
            tmp_path,
            bundles[-1],
            paces,
            module.Place("nowhere"),
            start=device.start,
            clock=device.clock,
            sleep=device.sleep,
            poll=1.0,
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
    content, _ = call(device, [PLAIN, DTSKD, LOTH], now=620)
    # 300 s, 300 s and 200 s: the second is tried, found not to fit with its overhead, and makes room for the third.
    assert [name for name, _ in device.started] == [PLAIN, DTSKD, LOTH]
    assert names(content) == [PLAIN, LOTH]
    pace = content["paces"][0]
    assert pace["recipe"] == PLAIN
    assert pace["seconds_per_epoch"] == pytest.approx(1, abs=0.05)
    assert content["runs"][0]["pace"] == pace
    assert "stopped" in capsys.readouterr().out


def test_what_is_known_not_to_finish_is_not_started(call, module, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=2.0)
    paces = module.Paces("simulated", [module.Pace(PLAIN, "simulated", 1, 2.0, 300)])
    content, _ = call(device, [PLAIN], known=paces, now=600)
    assert device.started == []
    assert content["runs"] == []
    assert "not started" in capsys.readouterr().out


def test_paces_of_another_device_say_nothing(module):
    paces = module.Paces("simulated", [module.Pace(PLAIN, "another", 1, 2.0, 300)])
    assert paces.seconds_per_epoch(PLAIN, 1) is None


def test_the_unknown_is_tried_and_stopped_once_it_is_known_not_to_fit(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=10.0)
    content, _ = call(device, [PLAIN], now=600)
    assert device.now < 100, "a few epochs tell"
    assert [pace["seconds_per_epoch"] for pace in content["paces"]] == [pytest.approx(10, abs=0.5)]
    assert "still needs" in capsys.readouterr().out
    content, _ = call(device, [PLAIN], now=600)
    assert len(device.started) == 1, "its pace is remembered with the runs"


def test_nothing_unknown_is_tried_in_the_last_minute(call, records):
    device = SimulatedDevice(records, seconds_per_epoch=0.1)
    call(device, [PLAIN], now=70)
    assert device.started == []


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


def test_no_second_training_is_started_that_could_make_the_first_miss_its_time(call, module, records):
    device = SimulatedDevice(records, seconds_per_epoch=1.0)
    paces = module.Paces("simulated", [module.Pace(DTSKD, "simulated", 1, 0.1, 300)])
    content, _ = call(device, [PLAIN, DTSKD], known=paces, now=400, parallel=2)
    assert names(content)[0] == PLAIN
    _, start = device.started[1]
    assert start >= 250, "half as fast, what is left of the first fits only now"


def test_one_failure_does_not_stop_the_others(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=1.0, fails=(PLAIN,))
    content, scheduler = call(device, [PLAIN, LOTH], now=600)
    assert names(content) == [LOTH]
    assert [item.recipe for item in scheduler.failed] == [PLAIN]
    assert "out of memory" in capsys.readouterr().out


def test_a_training_that_does_not_stop_is_killed(call, records, capsys):
    device = SimulatedDevice(records, seconds_per_epoch=3.0, deaf=True)
    call(device, [PLAIN], now=300, later=900)
    assert device.processes[0].signals == [signal.SIGINT, signal.SIGKILL]
    assert "unfinished" in capsys.readouterr().out
