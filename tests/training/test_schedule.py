"""What the schedule promises: up in a line, down in a cosine, and in time where the minutes are limited."""

import pytest

from training.schedule import Clock, decays, learning_rate_at
from training.settings import LoopSettings


def test_the_rate_rises_in_a_line_falls_in_a_cosine_and_stays():
    settings = LoopSettings(learning_rate=1.0, min_lr=0.1, warmup_iters=10, max_iters=110, lr_decay_iters=100)
    rates = [learning_rate_at(i, settings) for i in range(111)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1.0) and rates[55] == pytest.approx(0.55)
    assert all(a > b for a, b in zip(rates[10:100], rates[11:101])) and rates[100:] == pytest.approx([0.1] * 11)


def test_time_running_out_brings_the_rate_down_as_well():
    settings = LoopSettings(learning_rate=1.0, min_lr=0.1, warmup_iters=0, max_iters=1000)
    assert learning_rate_at(10, settings, share_of_time=0.5) == pytest.approx(0.55)
    assert learning_rate_at(10, settings, share_of_time=1.2) == pytest.approx(0.1)


@pytest.mark.parametrize("iter_num", [0, 5, 9])
def test_the_warm_up_is_the_same_however_late_it_is(iter_num):
    settings = LoopSettings(learning_rate=1.0, min_lr=0.1, warmup_iters=10)
    assert learning_rate_at(iter_num, settings, share_of_time=0.9) == learning_rate_at(iter_num, settings)


def test_without_a_limit_no_time_passes_and_none_is_noted():
    counters = {"iter_num": 3}
    clock = Clock(None, counters)
    clock.note(counters, clock.share())
    assert clock.share() == 0 and counters == {"iter_num": 3}


def test_the_clock_goes_on_from_the_seconds_of_earlier_runs(monkeypatch):
    now = 100.0
    monkeypatch.setattr("training.schedule.time.monotonic", lambda: now)
    counters = {"seconds": 30.0}
    clock = Clock(2, counters)
    assert clock.share() == pytest.approx(30 / 120)
    now = 160.0
    clock.note(counters, clock.share())
    assert clock.share() == pytest.approx(90 / 120) and counters["seconds"] == pytest.approx(90)


def test_wsd_is_stable_until_it_falls_in_a_line():
    settings = LoopSettings(learning_rate=1.0, min_lr=0.1, warmup_iters=10, max_iters=110, schedule="wsd",
                            decay_fraction=0.4)
    rates = [learning_rate_at(i, settings) for i in range(111)]
    assert rates[10:71] == [1.0] * 61 and rates[90] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert [decays(i, settings) for i in (0, 69, 71, 110)] == [False, False, True, True]
    assert learning_rate_at(20, settings, share_of_time=0.8) == pytest.approx(0.55)
    assert decays(20, settings, share_of_time=0.8) and not decays(9, settings, share_of_time=0.8)


def test_a_cosine_has_no_stable_checkpoint():
    assert not any(decays(i, LoopSettings(max_iters=10)) for i in range(11))
