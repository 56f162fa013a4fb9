"""Where records land whose clock was wrong: within a base window of the truth, or marked."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.clock import NS_PER_S, FastClock, ManualClock
from driftline.edge.timekeeping import (
    BOOTS_MAX,
    DRIFT_MAX,
    HELD_MAX_NS,
    RATE_ERROR_MAX,
    RATE_SPAN_MIN_NS,
    SAVE_EVERY_NS,
    WINDOW_NS,
    Sample,
    Timekeeper,
    offset_ns,
    record_time_s,
    stamp_now,
)
from driftline.wire.device import (
    Record,
    RowsRecord,
    Stamp,
    WindowRecord,
    encode_event,
    encode_rows,
    encode_window,
)
from tests.edge.crystal import Crystal

T0_S = 1_767_261_600  # 2026-01-01T10:00:00+00:00
T0 = T0_S * NS_PER_S
HOUR, DAY = 3600, 86_400


def landing_ns(keeper: Timekeeper, stamp: Stamp | None, wall_ns: int) -> int | None:
    """Return the true time that the hub takes a moment for that a device called `wall_ns`."""
    moved_s = keeper.shift_s(stamp, wall_ns // WINDOW_NS * 60)
    return None if moved_s is None else wall_ns + moved_s * NS_PER_S


# ── the law ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Life:
    """One boot: what happens after how many seconds, and by how much the wall clock is wrong at first."""

    off_s: float
    error_s: float
    length_s: float
    steps: list[tuple[float, float]]  # at this share of its length the wall clock is set this wrong
    asks: list[tuple[float, float, float]]  # share of its length, round trip, share of that until the hub


@dataclass
class Witness:
    """What was true when a window was counted."""

    boot: int
    stamp: Stamp
    wall_ns: int
    true_ns: int
    steady_ns: int


@dataclass
class Told:
    witnesses: list[Witness] = field(default_factory=list[Witness])
    samples: dict[int, list[Sample]] = field(default_factory=dict[int, list[Sample]])


shares = st.floats(0, 1)
errors_s = st.one_of(
    st.floats(-2 * DAY, 2 * DAY), st.floats(-90, 90), st.just(0.0), st.just(-float(T0_S))
)  # the last: 1970
lives = st.builds(
    Life,
    st.floats(1, 5 * DAY),
    errors_s,
    st.floats(60, 12 * DAY),
    st.lists(st.tuples(shares, errors_s), max_size=3),
    st.lists(st.tuples(shares, st.floats(0.01, 8), shares), max_size=4),
)


def live(lives: list[Life], ppm: float, windows: int = 12) -> tuple[Timekeeper, Told]:
    true_ns, document, told = T0, None, Told()
    keeper = Timekeeper(ManualClock(boot=""))
    for number, life in enumerate(lives):
        true_ns += int(life.off_s * NS_PER_S)
        clock = Crystal(f"boot-{number}", true_ns, max(0, true_ns + int(life.error_s * NS_PER_S)), ppm)
        keeper = Timekeeper(clock, document)
        for what, share, values in sorted(
            [
                *(("step", share, (error,)) for share, error in life.steps),
                *(("ask", share, rest) for share, *rest in life.asks),
                *(("window", i / windows, ()) for i in range(windows)),
            ],
            key=lambda one: (one[1], one[0]),
        ):
            due_s = (true_ns + share * life.length_s * NS_PER_S - clock.true_ns) / NS_PER_S
            clock.live(max(0, due_s))
            happen(what, values, number, clock, keeper, told)
        true_ns, document = clock.true_ns, keeper.document
    return keeper, told


def happen(what: str, values: Any, number: int, clock: Any, keeper: Timekeeper, told: Told) -> None:
    if what == "step":
        clock.set(max(0, clock.true_ns + int(values[0] * NS_PER_S)))
    elif what == "ask":
        sample = clock.ask(*values)
        keeper.learn(sample)
        told.samples.setdefault(number, []).append(sample)
    else:
        stamp = stamp_now(clock)
        assert stamp is not None
        told.witnesses.append(Witness(number, stamp, clock.now_ns(), clock.true_ns, clock.steady_ns()))


def allowed_ns(one: Witness, told: Told) -> float:
    """Return how far from the truth a window may lie, by arithmetic: within the samples, by their errors alone."""
    samples = told.samples[one.boot]
    first, last = samples[0], samples[-1]
    error_ns = max(sample.error_ns for sample in samples)
    away_ns = max(first.steady_ns - one.steady_ns, one.steady_ns - last.steady_ns, 0)
    # The estimate is for the window's start, up to a minute before; NTP's answers count as asked in the middle.
    slack_ns = DRIFT_MAX * 2 * WINDOW_NS + 1000
    # Those kept are not more than these, but one may be passed over: worse than what was known, as any crystal goes.
    passed_ns = DRIFT_MAX * (last.steady_ns - first.steady_ns) if len(samples) > 1 else 0
    return HELD_MAX_NS + error_ns + slack_ns + DRIFT_MAX * away_ns + min(passed_ns, error_ns)


@settings(max_examples=150, deadline=None)
@given(lives=st.lists(lives, min_size=1, max_size=5), ppm=st.floats(-500, 500))
def test_every_window_of_a_boot_with_a_sample_lands_where_it_belongs_and_others_are_marked(
    lives: list[Life], ppm: float
):
    keeper, told = live(lives, ppm)
    sampled = sorted(told.samples)
    for one in told.witnesses:
        landed_ns = landing_ns(keeper, one.stamp, one.wall_ns)
        if one.boot in told.samples:
            assert landed_ns is not None
            assert abs(landed_ns - one.true_ns) <= allowed_ns(one, told)
            continue
        before = [number for number in sampled if number < one.boot]
        after = [number for number in sampled if number > one.boot]
        if landed_ns is None:
            continue
        # It was believed: then at least it lies between what is known.
        assert before
        assert after
        assert told.samples[before[-1]][0].true_ns - 2 * WINDOW_NS <= landed_ns
        assert landed_ns <= told.samples[after[0]][-1].true_ns + WINDOW_NS


# ── in particular ────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_days_offline_with_a_crystal_off_by_500_ppm_land_within_a_base_window():
    clock = Crystal("a", T0, T0, ppm=500)
    keeper = Timekeeper(clock)
    keeper.learn(clock.ask(0.2))
    witnesses: list[tuple[Stamp | None, int, int]] = []
    for _ in range(10 * 24):
        clock.live(HOUR)
        witnesses.append((stamp_now(clock), clock.now_ns(), clock.true_ns))
    assert clock.now_ns() - clock.true_ns == pytest.approx(432 * NS_PER_S, rel=1e-6)  # 10 × 86,400 × 500e-6
    keeper.learn(clock.ask(4, share=1.0))
    off = [abs((landing_ns(keeper, stamp, wall) or 0) - true) for stamp, wall, true in witnesses]
    assert max(off) < WINDOW_NS


def test_what_the_crystal_did_before_is_expected_of_it_again():
    first = Crystal("a", T0, T0, ppm=-300)
    keeper = Timekeeper(first)
    keeper.learn(first.ask(0.1))
    first.live(DAY)
    keeper.learn(first.ask(0.1))
    second = Crystal("b", first.true_ns + HOUR * NS_PER_S, 0, ppm=-300)
    keeper = Timekeeper(second, keeper.document)
    stamp, wall_ns, true_ns = stamp_now(second), second.now_ns(), second.true_ns
    second.live(10 * DAY)
    keeper.learn(second.ask(0.1))
    landed_ns = landing_ns(keeper, stamp, wall_ns)
    assert landed_ns is not None
    assert abs(landed_ns - true_ns) < WINDOW_NS  # without the rate it would be 259 s


def test_up_to_half_a_base_window_nothing_moves():
    for error_s in (-29, 0, 29):
        clock = Crystal("a", T0, T0 + error_s * NS_PER_S)
        keeper = Timekeeper(clock)
        keeper.learn(clock.ask(0.1))
        assert keeper.shift_s(stamp_now(clock), T0_S) == 0


@pytest.mark.parametrize(("behind_s", "moved_s"), [(31, 0), (45, 60)])
def test_an_estimate_near_half_a_window_does_not_send_neighbours_to_different_windows(behind_s: int, moved_s: int):
    clock = Crystal("a", T0, T0 - behind_s * NS_PER_S)
    keeper = Timekeeper(clock)
    moved: set[int | None] = set()
    for share in (0.0, 1.0) * 10:
        clock.live(600)
        keeper.learn(clock.ask(4.0, share))  # the middle is wrong by two seconds, one way and the other
        moved.add(keeper.shift_s(stamp_now(clock), clock.now_ns() // NS_PER_S))
    assert moved == {moved_s}


def test_a_clock_that_is_set_while_it_runs_leaves_each_window_to_its_own_stamp():
    clock = Crystal("a", T0, 5 * NS_PER_S)
    before = stamp_now(clock)
    clock.live(100)
    clock.set(clock.true_ns)  # NTP
    after = stamp_now(clock)
    keeper = Timekeeper(clock)
    keeper.learn(clock.ask(0.1))
    assert landing_ns(keeper, before, 5 * NS_PER_S) == pytest.approx(T0, abs=30 * NS_PER_S)
    assert keeper.shift_s(after, clock.now_ns() // NS_PER_S) == 0


def three_boots(error_s: float) -> tuple[Timekeeper, Any]:
    """Return what is known after a boot with a sample, one without, in which a window was counted, and one with."""
    first = Crystal("first", T0, T0)
    keeper = Timekeeper(first)
    keeper.learn(first.ask(0.1))
    silent = Crystal("silent", T0 + DAY * NS_PER_S, max(0, T0 + int((DAY + error_s) * NS_PER_S)))
    keeper = Timekeeper(silent, keeper.document)
    last = Crystal("last", T0 + 2 * DAY * NS_PER_S, T0)
    keeper = Timekeeper(last, keeper.document)
    keeper.learn(last.ask(0.1))
    return keeper, silent


@pytest.mark.parametrize("error_s", [0, -DAY / 2, DAY / 2])
def test_a_boot_without_a_sample_is_believed_between_what_is_known_before_and_after(error_s: float):
    keeper, silent = three_boots(error_s)
    assert keeper.shift_s(stamp_now(silent), silent.now_ns() // NS_PER_S) == 0


@pytest.mark.parametrize("error_s", [-float(T0_S), -2 * DAY, 2 * DAY])
def test_a_boot_without_a_sample_is_unknown_outside_of_that(error_s: float):
    keeper, silent = three_boots(error_s)
    assert keeper.shift_s(stamp_now(silent), silent.now_ns() // NS_PER_S) is None


def test_with_nothing_known_before_or_after_the_time_is_unknown():
    silent = Crystal("silent", T0, T0)
    keeper = Timekeeper(silent)
    assert keeper.shift_s(stamp_now(silent), T0_S) is None
    last = Crystal("last", T0 + DAY * NS_PER_S, 0)
    keeper = Timekeeper(last, keeper.document)
    keeper.learn(last.ask())
    assert keeper.shift_s(stamp_now(silent), T0_S) is None
    assert keeper.shift_s(Stamp("a boot nobody knows", 0), T0_S) is None


def test_a_record_without_a_stamp_stays_where_it_is():
    keeper = Timekeeper(Crystal("a", T0, 0))
    assert keeper.shift_s(None, T0_S) == 0
    assert keeper.moved_s(Record(1, "window", b"")) == 0


def test_fast_time_is_never_corrected_and_asks_for_nothing():
    clock = FastClock(T0, 110, T0)
    assert (clock.boot, offset_ns(clock) < NS_PER_S, stamp_now(clock)) == ("", True, None)
    keeper = Timekeeper(clock)
    assert not keeper.wants_probe()
    assert not keeper.learn(Sample(clock.steady_ns(), 500 * NS_PER_S, 0))
    assert (keeper.shift_s(stamp_now(clock), T0_S), keeper.head_clock()) == (0, {})


# ── samples ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hub_is_asked_first_in_a_new_boot_and_where_the_last_answer_is_a_day_old():
    clock = Crystal("a", T0, 0)
    keeper = Timekeeper(clock)
    assert keeper.wants_probe()
    keeper.learn(clock.ask(0.1))
    assert not keeper.wants_probe()
    clock.live(DAY + 1)
    assert keeper.wants_probe()
    keeper.learn(clock.ask(0.1))
    assert not keeper.wants_probe()
    assert not Timekeeper(clock, keeper.document).wants_probe()  # the agent was restarted
    assert Timekeeper(Crystal("b", T0, 0), keeper.document).wants_probe()


def test_an_answer_that_took_long_does_not_replace_a_better_one():
    clock = Crystal("a", T0, 0)
    keeper = Timekeeper(clock)
    keeper.learn(clock.ask(0.1))
    before = keeper.document
    clock.live(60)
    assert not keeper.learn(clock.ask(100, share=1.0))
    assert keeper.document == before


def test_a_hub_that_was_itself_set_is_believed_from_then_on_and_one_that_never_was_is_not():
    clock = Crystal("a", T0, T0)
    keeper = Timekeeper(clock)
    keeper.learn(clock.ask(0.1))
    clock.live(60)
    assert not keeper.learn(Sample(clock.steady_ns(), 3600 * NS_PER_S, 0))  # 1970
    assert keeper.shift_s(stamp_now(clock), T0_S) == 0
    assert keeper.learn(Sample(clock.steady_ns(), T0 + HOUR * NS_PER_S, 0))
    assert keeper.shift_s(stamp_now(clock), T0_S) == HOUR


def test_how_wrong_the_clock_is_comes_with_a_bound_that_grows():
    clock = Crystal("a", T0, T0 - 100 * NS_PER_S)
    keeper = Timekeeper(clock)
    assert keeper.head_clock() == {}
    keeper.learn(clock.ask(2.0))
    told = keeper.head_clock()
    assert told["offset_ns"] == pytest.approx(100 * NS_PER_S, abs=NS_PER_S)
    clock.live(10_000)
    assert keeper.head_clock()["error_ns"] - told["error_ns"] == pytest.approx(5 * NS_PER_S, rel=0.01)  # 500 ppm


def test_flash_is_spared_a_commit_for_each_answer():
    clock = Crystal("a", T0, T0)
    keeper = Timekeeper(clock)
    due = 0
    for _ in range(144):  # a day at ten minutes
        due += keeper.learn(clock.ask(0.1))
        clock.live(600)
    assert due == DAY * NS_PER_S // SAVE_EVERY_NS
    assert len(keeper.document) < 250


def test_boots_are_kept_by_the_hundred_and_not_for_ever():
    document = None
    for number in range(BOOTS_MAX + 5):
        document = Timekeeper(ManualClock(boot=f"{number}"), document).document
    keeper = Timekeeper(ManualClock(boot="last"), document)
    assert keeper.document.count("[[") <= 2
    assert '"5"' not in keeper.document
    assert f'"{BOOTS_MAX + 4}"' in keeper.document


@pytest.mark.parametrize("document", ["", "{}", '{"boots": 5, "held_s": 0}', '{"boots": [["a", [[1]]]], "held_s": 0}'])
def test_a_document_that_cannot_be_read_is_learned_anew(document: str, caplog: pytest.LogCaptureFixture):
    keeper = Timekeeper(Crystal("a", T0, T0), document)
    assert keeper.wants_probe()
    assert "learned anew" in caplog.text


def test_a_rate_is_told_by_samples_far_apart_and_exact_enough():
    clock = Crystal("a", T0, T0, ppm=200)
    keeper = Timekeeper(clock)
    keeper.learn(clock.ask(0.1))
    clock.live(RATE_SPAN_MIN_NS / NS_PER_S + 1)
    keeper.learn(clock.ask(0.1))
    stamp = stamp_now(clock)
    clock.live(2 * DAY)
    # Two days after the last sample: 200 ppm are 35 s, known to 50 ppm, 9 s.
    behind_ns = keeper.head_clock()["offset_ns"] - (clock.true_ns - clock.now_ns())
    assert abs(behind_ns) < RATE_ERROR_MAX * 2 * DAY * NS_PER_S
    assert stamp == stamp_now(clock)


def test_each_kind_of_record_says_its_time():
    window = encode_window(WindowRecord("pv", T0_S, 60, 0, ()))
    rows = encode_rows(RowsRecord("pv", T0_S, 60, True, [T0], {"out.x": ("d", [1.0])}))
    kinds: list[Any] = [("window", window), ("rows", rows), ("event", encode_event("x", T0 + 5))]
    assert [record_time_s(Record(1, kind, data)) for kind, data in kinds] == [T0_S] * 3
    keeper = Timekeeper(Crystal("a", T0, 0))
    stamp = stamp_now(keeper.clock)
    for kind, data in kinds:
        assert keeper.moved_s(Record(1, kind, data, stamp)) is None
        assert keeper.moved_s(Record(1, kind, b"torn", stamp)) == 0
