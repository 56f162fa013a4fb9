"""When a device syncs: a year of network weather without a network."""

import random

from driftline.edge.shipper import BACK_OFF_MAX_S, HURRIES_MAX, Shipper, Upload, Wait


def seconds(shipper: Shipper, now_s: float) -> float:
    step = shipper.next(now_s)
    return 0.0 if isinstance(step, Upload) else step.seconds


def test_the_first_sync_is_at_once_and_the_next_after_the_interval():
    shipper = Shipper(0, uniform=lambda low, high: high)
    assert shipper.next(0) == Upload()
    shipper.acknowledged(0, 600)
    assert shipper.next(0) == Wait(600)
    assert shipper.next(600) == Upload()


def test_while_records_wait_the_next_batch_follows_at_once():
    shipper = Shipper(0)
    shipper.acknowledged(5, 600, more=True)
    assert shipper.next(5) == Upload()


def test_no_interval_is_below_a_second():
    shipper = Shipper(0)
    shipper.acknowledged(0, 0.001)
    assert seconds(shipper, 0) == 1.0


def test_a_new_device_asks_every_second_for_its_first_minutes_only():
    shipper = Shipper(0, uniform=lambda low, high: high)
    shipper.acknowledged(10, 600, idle=True)
    assert seconds(shipper, 10) == 1.0
    shipper.acknowledged(301, 600, idle=True)
    assert seconds(shipper, 301) == 600


def test_a_hub_that_refuses_the_device_is_asked_ever_more_seldom_whatever_the_interval():
    shipper = Shipper(0, uniform=lambda low, high: high)
    shipper.acknowledged(0, 2)
    pauses: list[float] = []
    for _ in range(10):
        shipper.refused(0, for_good=True)
        pauses.append(seconds(shipper, 0))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_failures_back_off_to_the_interval_and_one_success_forgets_them():
    shipper = Shipper(0, uniform=lambda low, high: high)
    shipper.acknowledged(0, 60)
    pauses: list[float] = []
    for _ in range(9):
        shipper.refused(0)
        pauses.append(seconds(shipper, 0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    shipper.acknowledged(0, 60)
    shipper.refused(0)
    assert seconds(shipper, 0) == 1


def test_no_outage_is_too_long():
    shipper = Shipper(0, uniform=lambda low, high: high)
    shipper.acknowledged(0, 3600)
    for _ in range(5000):
        shipper.refused(0)
    assert seconds(shipper, 0) == BACK_OFF_MAX_S


def test_a_fleet_that_lost_its_hub_at_one_moment_does_not_come_back_at_one_moment():
    fleet = [Shipper(0, random.Random(seed).uniform) for seed in range(100)]  # noqa: S311  jitter, not a secret
    for shipper in fleet:
        shipper.acknowledged(0, 60)
        for _ in range(10):
            shipper.refused(0)
    waits = [seconds(shipper, 0) for shipper in fleet]
    assert min(waits) >= 30
    assert max(waits) <= 60
    assert len({round(wait) for wait in waits}) > 15


def test_news_travels_soon_but_a_flood_of_it_does_not():
    shipper = Shipper(0, uniform=lambda low, high: high)
    syncs = 0
    for tenth in range(600):
        now_s = tenth / 10
        if shipper.next(now_s) == Upload():
            syncs += 1
            shipper.acknowledged(now_s, 600)
        shipper.hurry(now_s)
    assert syncs <= HURRIES_MAX + 1


def test_news_do_not_shorten_a_back_off():
    shipper = Shipper(0, uniform=lambda low, high: high)
    shipper.acknowledged(0, 600)
    for _ in range(6):
        shipper.refused(0)
    shipper.hurry(0)
    assert seconds(shipper, 0) == 32
