import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.signal import lfilter

from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import Answer, State, Tracks, alarm_level, calibrated, step, steps
from driftline.assay.observed import Part
from driftline.assay.statistics import Yardstick, yardstick_of
from driftline.errors import InvalidInputError

ALARM_AT = 10_000.0


class Stream:
    """One field of one device under a promise."""

    def __init__(self, baseline: Any, n: int = 60, alarm_at: float = ALARM_AT, **options: Any) -> None:
        data = BaselineData.of_values(baseline)
        self.calibration: Calibration = calibrate(data, n=n, **options)
        self.yardstick: Yardstick = yardstick_of(data, n)
        self.state = State.start(self.calibration)
        self.alarm_at = alarm_at

    def see(self, values: Any) -> Answer:
        window = self.yardstick.measure([Part(values=np.asarray(values, dtype=np.float64))])
        self.state, answer = step(self.calibration, self.state, window, self.alarm_at)
        return answer

    def statuses(self, windows: Any) -> list[str]:
        return [self.see(window).status for window in windows]


def normal(windows: int, seed: int, n: int = 60, shift: float = 0.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(shift, 1, (windows, n))


# ── e-values and the detector ────────────────────────────────────────────────────────────────────────────────────


def test_p_values_become_e_values_of_mean_one():
    mean, _ = integrate.quad(lambda p: float(calibrated(np.array([p]))[0]), 1e-12, 1, limit=500)
    # Between 0 and 1e-12 lies 1 / ln(1e12), by the primitive of the calibrator.
    assert mean + 1 / math.log(1e12) == pytest.approx(1, abs=2e-3)


def test_p_values_are_the_tails_of_students_t():
    stream = Stream(normal(20, 1).ravel())
    answer = stream.see(normal(1, 2)[0])
    freedom = np.minimum(stream.calibration.freedom, stream.calibration.freedom_max)
    z = answer.residuals
    assert answer.p["location"] == pytest.approx(2 * stats.t.sf(abs(z["location"]), freedom[0]))
    assert answer.p["omnibus"] == pytest.approx(stats.t.sf(z["omnibus"], freedom[2]))


def test_the_e_value_of_a_window_has_mean_at_most_one_without_drift():
    calibration = Stream(normal(50, 3).ravel()).calibration
    rng = np.random.default_rng(4)
    tracks = Tracks([calibration] * 20_000)
    freedom = np.minimum(tracks.freedom, tracks.freedom_max)
    sd = np.maximum(np.sqrt(tracks.squares / tracks.freedom), tracks.floor) * np.sqrt(1 + 1 / tracks.size)
    values = tracks.mean + rng.standard_t(freedom) * sd
    e = tracks.advance(values, np.full((20_000, 5), 60.0), np.full(20_000, ALARM_AT)).e
    assert e.mean() < 1 + 4 * e.std() / math.sqrt(e.size)


def test_evidence_is_that_of_shiryaev_and_roberts():
    stream = Stream(normal(20, 5).ravel())
    before = 0.0
    for window in normal(30, 6):
        answer = stream.see(window)
        assert answer.evidence == pytest.approx((before + 1) * answer.e)
        before = answer.evidence


def test_evidence_stops_at_ten_times_the_level():
    stream = Stream(normal(20, 7).ravel())
    answers = [stream.see(window) for window in normal(30, 8, shift=2.0)]
    assert max(answer.evidence for answer in answers) == pytest.approx(10 * ALARM_AT)


def test_a_warning_comes_at_a_tenth():
    stream = Stream(normal(100, 9).ravel())
    for window in normal(60, 10, shift=0.2):
        answer = stream.see(window)
        expected = "Alert" if answer.evidence >= ALARM_AT else "Warning" if answer.evidence >= ALARM_AT / 10 else "Ok"
        assert answer.status == expected
        if expected == "Alert":
            break
    else:
        pytest.fail("a shift of 0.2 sd was never found")


def test_an_incident_resolves_after_five_calm_windows_and_starts_at_nothing():
    stream = Stream(normal(50, 11).ravel())
    assert stream.statuses(normal(6, 12, shift=1.0))[-1] == "Alert"
    answers = [stream.see(window) for window in normal(30, 13)]
    over = next(i for i, answer in enumerate(answers) if answer.resolved)
    assert over >= 4
    assert all(answer.e < 1 for answer in answers[over - 4 : over + 1])
    assert all(answer.status == "Alert" for answer in answers[:over])
    assert (answers[over].status, answers[over].evidence) == ("Ok", 0.0)
    assert answers[over + 1].evidence == pytest.approx(answers[over + 1].e)


def test_the_level_is_the_promise_of_the_assay_over_all_its_streams():
    assert alarm_level(1, 30 * 86_400, 180) == 14_400
    assert alarm_level(10, 30 * 86_400, 180) == 144_000
    with pytest.raises(InvalidInputError, match="no promise"):
        alarm_level(1, 60, 180)


# ── what enters the reference ────────────────────────────────────────────────────────────────────────────────────


def test_a_suspicious_window_never_enters_the_reference_nor_do_those_just_before_it():
    stream = Stream(normal(20, 14).ravel(), alarm_at=1e12)
    stream.statuses(normal(8, 15))
    size = stream.state.size
    assert len(stream.state.waiting) == 5
    stream.see(normal(1, 16, shift=3.0)[0])
    assert stream.state.waiting == ()
    assert stream.state.size == size
    stream.statuses(normal(5, 17, shift=3.0))
    assert stream.state.size == size


def test_usual_windows_enter_it_five_windows_late():
    stream = Stream(normal(20, 18).ravel())
    sizes = []
    for window in normal(8, 19):
        stream.see(window)
        sizes.append(stream.state.size[0])
    assert sizes == [20, 20, 20, 20, 20, 21, 22, 23]


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_state_survives_json_and_the_future_is_the_same():
    stream = Stream(normal(20, 20).ravel())
    stream.statuses(normal(7, 21))
    document = json.dumps(stream.state.document())
    assert len(document) < 4096
    assert State.of(json.loads(document)) == stream.state
    window = stream.yardstick.measure([Part(values=normal(1, 22)[0])])
    again = step(stream.calibration, State.of(json.loads(document)), window, ALARM_AT)
    assert again == step(stream.calibration, stream.state, window, ALARM_AT)


def test_many_streams_step_as_each_alone():
    streams = [Stream(normal(20 + seed, seed).ravel()) for seed in range(6)]
    for day in range(12):
        windows = [
            one.yardstick.measure([Part(values=normal(1, 100 + day, shift=0.3 * i)[0])])
            for i, one in enumerate(streams)
        ]
        windows[day % 6] = streams[day % 6].yardstick.measure([])
        calibrations, states = [one.calibration for one in streams], [one.state for one in streams]
        together = steps(calibrations, states, windows, [ALARM_AT] * 6)
        for one, window, (state, answer) in zip(streams, windows, together, strict=True):
            alone_state, alone = step(one.calibration, one.state, window, ALARM_AT)
            np.testing.assert_allclose(state.evidence, alone_state.evidence, rtol=1e-9)
            assert answer.status == alone.status
            one.state = state


def test_a_window_without_data_leaves_the_evidence_alone():
    stream = Stream(normal(20, 23).ravel())
    stream.statuses(normal(4, 24, shift=0.3))
    before = stream.state
    assert stream.see([]).status == "NoData"
    assert stream.see([math.nan] * 60).status == "NoData"
    assert stream.see([0.0]).status == "TooFew"
    assert stream.state.evidence == before.evidence
    assert stream.state.waiting == before.waiting


# ── the promise, in small ────────────────────────────────────────────────────────────────────────────────────────


def test_quiet_streams_seldom_alarm_whatever_the_field():
    runs, length, n = 60, 300, 60
    for field in (lambda rows: rows, np.exp, lambda rows: 1 / (1 + np.exp(-rows - 3))):
        calibrations: list[Calibration] = []
        windows: list[Any] = []
        for seed in range(runs):
            rows = field(normal(20 + length, 1000 + seed, n))
            baseline = BaselineData.of_values(rows[:20].ravel())
            calibrations.append(calibrate(baseline, n=n))
            windows.append(yardstick_of(baseline, n).measure_rows(rows[20:]))
        tracks, values = Tracks(calibrations), np.stack(windows)
        level = np.full(runs, 1000.0)
        told = [tracks.advance(values[:, t], np.full((runs, 5), 60.0), level) for t in range(length)]
        alarmed = np.any([one.evidence >= 1000 for one in told], axis=0)
        # 300 windows at one in 1,000: at most 30 % by Markov's inequality; measured 3 to 9 %.
        assert alarmed.mean() < 0.2


def test_small_shifts_are_found_in_the_time_promised():
    delays = []
    for seed in range(15):
        stream = Stream(normal(100, seed, 200).ravel(), n=200)
        statuses = stream.statuses(normal(40, 500 + seed, 200, shift=0.25))
        delays.append(statuses.index("Alert") + 1 if "Alert" in statuses else 1000)
    assert np.median(delays) <= 5
    assert max(delays) < 20


# ── awkward inputs ───────────────────────────────────────────────────────────────────────────────────────────────


def with_missing(rows: Any, share: float, seed: int) -> Any:
    return np.where(np.random.default_rng(seed).random(np.shape(rows)) < share, np.nan, rows)


def zeros(windows: int, share: float, seed: int, n: int = 200) -> Any:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((windows, n)) < share, 0.0, rng.normal(5, 1, (windows, n)))


def test_constant_and_same_is_ok():
    assert set(Stream(np.full(1200, 5.0)).statuses(np.full((50, 60), 5.0))) == {"Ok"}


def test_constant_changed_is_an_alert():
    assert "Alert" in Stream(np.full(1200, 5.0)).statuses(np.full((3, 60), 7.0))


def test_half_missing_is_an_alarm_of_the_missing_share():
    stream = Stream(normal(20, 30).ravel())
    answers = [stream.see(row) for row in with_missing(normal(4, 31), 0.5, 32)]
    assert answers[-1].status == "Alert"
    assert min(answers[0].p, key=lambda name: answers[0].p[name]) == "missing"


def test_five_percent_missing_in_both_is_ok():
    stream = Stream(with_missing(normal(20, 33), 0.05, 34).ravel())
    assert set(stream.statuses(with_missing(normal(100, 35), 0.05, 36))) == {"Ok"}


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e9])
def test_one_absurd_value_is_ok(value: float):
    stream = Stream(normal(20, 37).ravel())
    windows = normal(20, 38)
    windows[::3, 5] = value
    assert set(stream.statuses(windows)) == {"Ok"}


def test_ninety_percent_zeros_in_both_is_ok_and_seventy_an_alert():
    stream = Stream(zeros(20, 0.9, 39).ravel(), n=200)
    assert set(stream.statuses(zeros(100, 0.9, 40))) == {"Ok"}
    assert "Alert" in stream.statuses(zeros(5, 0.7, 41))


def test_two_values_half_and_half_in_both_is_ok():
    rng = np.random.default_rng(42)
    stream = Stream(rng.integers(0, 2, 1200).astype(float))
    assert set(stream.statuses(rng.integers(0, 2, (100, 60)).astype(float))) == {"Ok"}


def test_of_two_values_that_are_no_shares_another_mix_is_an_alert():
    rng = np.random.default_rng(60)
    stream = Stream(rng.integers(1, 3, 3000).astype(float))
    assert set(stream.statuses(rng.integers(1, 3, (100, 60)).astype(float))) == {"Ok"}
    assert "Alert" in stream.statuses(1.0 + (rng.random((4, 60)) < 0.95))


def test_however_large_a_shift_is_one_window_is_enough():
    baseline, window = normal(25, 61, n=200).ravel(), normal(1, 62, n=200)
    for shift in (3.0, 6.0, 20.0, 1000.0):
        # Ratios for shifts of up to 16 standard deviations of a window alone fall again far beyond them.
        assert Stream(baseline, n=200, alarm_at=40_000).statuses(window + shift) == ["Alert"]


def test_everything_above_the_baselines_maximum_is_an_alert():
    rng = np.random.default_rng(43)
    stream = Stream(rng.uniform(0, 1, 1200))
    assert "Alert" in stream.statuses(rng.uniform(1.01, 1.2, (3, 60)))


def test_a_looped_clip_is_not_infinitely_sure():
    clip = np.random.default_rng(44).normal(size=60)
    stream = Stream(np.tile(clip, 20), alarm_at=175_000)
    # The same frames, cut elsewhere, and a few of them lost.
    windows = [np.roll(np.delete(clip, [i % 60]), i) for i in range(40)]
    assert set(stream.statuses(windows)) == {"Ok"}


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_that_repeats_is_usual_when_it_comes_again(seed: int):
    """Every window is one pass: a baseline's own windows help to choose the edges that they are counted between."""
    rng = np.random.default_rng(seed)
    scene = lfilter([math.sqrt(1 - 0.98**2)], [1.0, -0.98], rng.normal(size=620))[500:]
    passes = scene + 0.002 * rng.normal(size=(74, 120))
    stream = Stream(passes[:14].ravel(), n=120, alarm_at=100_000)
    # Measured on edges that its own window chose, three of these six alarm.
    assert set(stream.statuses(passes[14:])) == {"Ok"}


def test_all_missing_is_no_data_with_its_missing_share():
    stream = Stream(normal(20, 45).ravel())
    window = stream.yardstick.measure([Part(values=np.full(60, math.nan))])
    assert (window.count, window.missing, window.n) == (60, 60, 0)
    assert stream.see(np.full(60, math.nan)).status == "NoData"


@pytest.mark.parametrize(("rows", "status"), [([], "NoData"), ([0.3], "TooFew"), ([math.nan, 0.3], "TooFew")])
def test_an_empty_window_has_no_data_and_one_row_is_too_few(rows: list[float], status: str):
    assert Stream(normal(20, 46).ravel()).see(rows).status == status


class TestAwkwardInputsOfRowsThatResembleEachOther:
    """The same answers where windows are compared with windows."""

    def stream(self) -> Stream:
        stream = Stream(self.rows(50, 47).ravel())
        assert stream.calibration.kind == "windows"
        return stream

    def rows(self, windows: int, seed: int) -> Any:
        noise = np.random.default_rng(seed).normal(size=(windows + 1) * 60)
        return lfilter([math.sqrt(1 - 0.8**2)], [1.0, -0.8], noise)[60:].reshape(windows, 60)

    def test_five_percent_missing_in_both_is_ok(self):
        stream = Stream(with_missing(self.rows(50, 48), 0.05, 49).ravel())
        assert set(stream.statuses(with_missing(self.rows(60, 50), 0.05, 51))) == {"Ok"}

    def test_half_missing_is_an_alarm_of_the_missing_share(self):
        stream = self.stream()
        answers = [stream.see(row) for row in with_missing(self.rows(6, 52), 0.5, 53)]
        assert answers[-1].status == "Alert"
        assert min(answers[0].p, key=lambda name: answers[0].p[name]) == "missing"

    @pytest.mark.parametrize("value", [math.inf, -math.inf, 1e9])
    def test_one_absurd_value_is_ok(self, value: float):
        windows = self.rows(20, 54)
        windows[::3, 5] = value
        assert set(self.stream().statuses(windows)) == {"Ok"}

    def test_everything_above_the_maximum_is_an_alert(self):
        assert "Alert" in self.stream().statuses(6 + self.rows(4, 55))


def test_a_rare_yes_that_lasts_is_usual():
    """Somebody at the counter: two per cent of frames, ten in a row. Windows without and with are no normal law."""
    alarmed = 0
    for seed in range(20):
        r = np.random.default_rng(seed)
        rows = np.where(r.random(260 * 60) < 0.98, 0.0, 1.0)
        fresh = np.maximum.accumulate(np.where(r.random(rows.size) < 0.9, 0, np.arange(rows.size)))
        windows = rows[fresh].reshape(260, 60)
        stream = Stream(windows[:60].ravel(), alarm_at=1000.0)
        alarmed += "Alert" in stream.statuses(windows[60:])
    # 200 windows at one in 1,000: four of twenty may alarm. Measured: two, and eight where rank bounds nothing.
    assert alarmed <= 3
