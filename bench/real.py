"""Does an alarm keep its promise on real data? `python -m bench.alarms --real`.

A real clip of a fixed camera, seen by driftline's own observers and detector, looped and then blurred; car loans that
drift at a known row, and census data that hardly do (both from NannyML's package); and three weeks of a rendered shop
whose light follows the day and the weather. One false alarm in 175,000 windows is promised: one a year at 3 minutes.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported

import cv2
import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from bench.machine import machine
from driftline.assay.baseline import BaselineData
from driftline.assay.calibration import Calibration, calibrate
from driftline.assay.evidence import State, step
from driftline.assay.magnitude import Magnitude, weigh
from driftline.assay.observed import Part
from driftline.assay.statistics import Yardstick, yardstick_of
from driftline.clock import NS_PER_S
from driftline.demo.scene import Shelf, blurred
from driftline.errors import InvalidInputError
from driftline.pipeline.detector import DetectorConfig
from driftline.pipeline.observers.detections import detection_fields
from driftline.pipeline.observers.image import image_fields
from driftline.pipeline.onnx_step import OnnxStep
from driftline.pipeline.schema import Field

Floats = NDArray[np.float64]
ALARM_AT = 175_000.0
CACHE = Path(__file__).parent / ".cache"
RESULTS = Path(__file__).parent / "results" / "real.json"


@dataclass(eq=False)
class Stream:
    """One field under a promise: what it is measured by, and where its evidence stands."""

    calibration: Calibration
    yardstick: Yardstick
    state: State
    magnitude: Magnitude = field(default_factory=Magnitude)

    @staticmethod
    def of(values: Floats, n: int, **season: Any) -> "Stream":
        """Calibrate on raw values in time order, cut by n."""
        baseline = BaselineData.of_values(values)
        calibration = calibrate(baseline, n=n, **season)
        return Stream(calibration, yardstick_of(baseline, n), State.start(calibration))

    def again(self) -> "Stream":
        """Return a stream that goes on from here, so that several futures can be tried."""
        return Stream(self.calibration, self.yardstick, self.state, self.magnitude)


@dataclass(frozen=True)
class Watched:
    """What came of a stream's windows: numbered from 1, None where it never came."""

    windows: int
    alert: int | None
    largest: float
    text: str

    @property
    def found(self) -> str:
        """The alert's window, for a table."""
        return "–" if self.alert is None else str(self.alert)


def watch(
    stream: Stream,
    windows: Floats,
    *,
    alarm_at: float = ALARM_AT,
    min_effect: float | None = None,
    starts_ns: Sequence[int | None] | None = None,
) -> Watched:
    """Step a stream through windows of raw values, shape (windows, rows), as the hub does."""
    alert, largest, text = None, 0.0, ""
    starts = [None] * len(windows) if starts_ns is None else starts_ns
    for number, (values, start) in enumerate(zip(windows, starts, strict=True), 1):
        before, window = stream.state, stream.yardstick.measure([Part(values=values)])
        stream.state, answer = step(stream.calibration, before, window, alarm_at, start_ns=start)
        stream.magnitude, weighed = weigh(
            stream.magnitude, stream.calibration, before, window, answer, min_effect=min_effect, start_ns=start
        )
        largest = max(largest, answer.evidence)
        if answer.evidence >= alarm_at:
            text = weighed.text or text
        if weighed.status == "Alert" and alert is None:
            alert = number
    return Watched(len(windows), alert, round(largest, 2), text)


# ── a real clip ──────────────────────────────────────────────────────────────────────────────────────────────────

FRAMES_A_WINDOW, BASELINE_WINDOWS, HEALTHY_WINDOWS, BLURRED_WINDOWS = 90, 26, 132, 60
# Gaussian sigma in pixels of a picture 640 wide; the detector takes half a minute a pass, so it sees two of them.
BLURS, BLURS_DETECTED = (1.0, 2.0, 4.0), (2.0, 4.0)
FOUND_WITHIN = {1.0: 3, 2.0: 2}
_IMAGE, _DETECTED = ("sharpness", "avg_px_intensity"), ("avg_confidence", "detections")


def clip(samples: Path) -> tuple[dict[str, Any], list[str]]:
    """Show the fields of the real clip: healthy, then blurred."""
    video, model = samples / "video" / "bottle-detection.mp4", samples / "models" / "yolox_nano_e2e.onnx"
    if not (video.exists() and model.exists()):
        return {}, [f"the clip or the model is not in {samples}; set DRIFTLINE_SAMPLES to the folder that has them"]
    sharp = {**observed(video, 0.0), **observed(video, 0.0, model)}
    frames = len(sharp["sharpness"])
    told: dict[str, Any] = {"frames": frames, "windows of": FRAMES_A_WINDOW, "baseline windows": BASELINE_WINDOWS}
    missed: list[str] = []
    print(f"\nreal clip, {frames} frames looped, {FRAMES_A_WINDOW} a window, K = {BASELINE_WINDOWS}: found in window")
    print(f"{'field':18}{'evidence':>9} {'healthy':>8} {'largest':>8}" + "".join(f"{f'blur {b:g}':>8}" for b in BLURS))
    for name in (*_IMAGE, *_DETECTED):
        stream = Stream.of(_looped(sharp[name], 0, BASELINE_WINDOWS).ravel(), FRAMES_A_WINDOW)
        healthy = watch(stream, _looped(sharp[name], BASELINE_WINDOWS, HEALTHY_WINDOWS))
        if healthy.alert is not None:
            missed.append(f"{name} of the healthy clip alarms in window {healthy.alert}")
        found = {sigma: _blurred(stream, video, model, name, sigma) for sigma in BLURS}
        for sigma, within in FOUND_WITHIN.items() if name == "sharpness" else ():
            one = found[sigma]
            if one is None or one.alert is None or one.alert > within:
                missed.append(f"blur {sigma:g} is found in window {one and one.alert}, not within {within}")
        shown = "".join(f"{'' if one is None else one.found:>8}" for one in found.values())
        print(f"{name:18}{stream.calibration.kind:>9} {healthy.found:>8} {healthy.largest:8.1f}{shown}", flush=True)
        told[name] = {
            "why": stream.calibration.why,
            "healthy windows": healthy.windows,
            "healthy: found in window": healthy.alert,
            "healthy: largest evidence": healthy.largest,
            "found in window": {f"blur {sigma:g}": one.alert for sigma, one in found.items() if one is not None},
            "says": {f"blur {sigma:g}": one.text for sigma, one in found.items() if one is not None},
        }
    return told, missed


def _blurred(stream: Stream, video: Path, model: Path, name: str, sigma: float) -> Watched | None:
    if name in _DETECTED and sigma not in BLURS_DETECTED:
        return None
    values = observed(video, sigma, model if name in _DETECTED else None)[name]
    return watch(stream.again(), _looped(values, BASELINE_WINDOWS + HEALTHY_WINDOWS, BLURRED_WINDOWS))


def _looped(values: Floats, first: int, count: int) -> Floats:
    at = (np.arange(count * FRAMES_A_WINDOW) + first * FRAMES_A_WINDOW) % len(values)
    return values[at].reshape(count, FRAMES_A_WINDOW)


def observed(video: Path, sigma: float, model: Path | None = None) -> dict[str, Floats]:
    """Return the fields of every frame, by name: the image's, or with a model the detections'.

    They are kept under a digest of clip, model and blur, because a detector takes half a minute a pass.
    """
    key = hashlib.sha256(video.read_bytes() + (model.read_bytes() if model else b"") + str(sigma).encode()).hexdigest()
    kept = CACHE / "fields" / f"{key[:16]}.npz"
    if not kept.exists():
        rows = list(_detected(video, sigma, model) if model else map(image_fields, _frames(video, sigma)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: an interrupted run leaves nothing that looks like an answer.
        whole = kept.with_suffix(".part.npz")
        fields: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        np.savez(whole, **fields)
        whole.replace(kept)
    with np.load(kept) as read:
        return dict(read)


def _frames(video: Path, sigma: float) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(video))
    try:
        while True:
            read, frame = capture.read()
            if not read:
                return
            yield blurred(np.asarray(frame, np.uint8), sigma)
    finally:
        capture.release()


def _detected(video: Path, sigma: float, model: Path) -> Iterator[dict[str, float]]:
    frame = [Field("image", "uint8", (None, None, 3))]
    found = [
        Field("boxes", "float32", (None, 4)),
        Field("classes", "int64", (None,)),
        Field("confidences", "float32", (None,)),
    ]
    detector = OnnxStep("yolox", model.read_bytes(), frame, found, DetectorConfig(score_threshold=0.3))
    for picture in _frames(video, sigma):
        outputs = detector.run({"image": picture})
        yield detection_fields(outputs["confidences"].tolist(), outputs["classes"].tolist())
    detector.close()


# ── tables with known drift ──────────────────────────────────────────────────────────────────────────────────────

NANNYML = "nannyml==0.13.1"
ROWS_A_WINDOW, DRIFT_ROW, LOANS_WITHIN, MIN_EFFECT = 1_000, 25_000, 2, 0.1
LOANS = ("car_value", "debt_to_income_ratio", "loan_length", "driver_tenure", "y_pred_proba")
PEOPLE = ("AGEP", "SCHL", "MAR", "ANC", "MIG", "MIL", "ESP", "predicted_probability")


def nannyml_data() -> Path:
    """Return the folder of NannyML's data sets; the package is installed aside, and none of its code runs."""
    home = CACHE / NANNYML.replace("==", "-")
    data = home / "nannyml" / "datasets" / "data"
    if not data.exists():
        where = ["--no-deps", "--quiet", "--target", str(home)]
        subprocess.run([sys.executable, "-m", "pip", "install", *where, NANNYML], check=True)
    return data


def loans(data: Path) -> tuple[dict[str, Any], list[str]]:
    """Show synthetic car loans: several columns under one promise, drifting from a known row on."""
    before = pd.read_csv(data / "synthetic_car_loan_reference.csv")
    after = pd.read_csv(data / "synthetic_car_loan_analysis.csv")
    healthy, told, missed, first = DRIFT_ROW // ROWS_A_WINDOW, {}, [], None
    # One promise for all: each column must show so many times more.
    together = ALARM_AT * len(LOANS)
    print(
        f"\ncar loans, {ROWS_A_WINDOW} rows a window, drift after window {healthy}, {len(LOANS)} columns, one promise"
    )
    print(f"{'column':24}{'evidence':>9} {'before':>7} {'largest':>8} {'after':>6}  what it says")
    for name in LOANS:
        stream = Stream.of(before[name].to_numpy(np.float64), ROWS_A_WINDOW)
        windows = _windows(after[name])
        # Quiet is judged at the lower level of a column alone, drift at the higher one of all: the harder way, both.
        quiet = watch(stream.again(), windows[:healthy])
        watch(stream, windows[:healthy], alarm_at=together)
        found = watch(stream, windows[healthy:], alarm_at=together)
        if quiet.alert is not None:
            missed.append(f"{name} of the car loans alarms in window {quiet.alert}, before the drift")
        if found.alert is not None:
            first = min(found.alert, first or found.alert)
        kind = stream.calibration.kind
        print(f"{name:24}{kind:>9} {quiet.found:>7} {quiet.largest:8.1f} {found.found:>6}  {found.text}")
        told[name] = {
            "before: found in window": quiet.alert,
            "before: largest evidence": quiet.largest,
            "found in window": found.alert,
            "says": found.text,
        }
    if first is None or first > LOANS_WITHIN:
        missed.append(f"the drift of the car loans is found in window {first}, not within {LOANS_WITHIN}")
    return {"drift row": DRIFT_ROW, "first found in window": first, "columns": told}, missed


def people(data: Path) -> tuple[dict[str, Any], list[str]]:
    """Show census data, which hardly drift: an alarm says how little it is, and none comes with a least effect.

    The data know the year alone. Within a year the file is in the order of its serial numbers, where from 2017 on all
    group quarters stand at the end: no order in time, so each year's rows are shuffled.
    """
    before = _by_year(pd.read_parquet(data / "employment_MA_reference.pq"))
    after = _by_year(pd.read_parquet(data / "employment_MA_analysis.pq"))
    told: dict[str, Any] = {}
    missed: list[str] = []
    print(f"\nemployment, {ROWS_A_WINDOW} rows a window; an alert from {MIN_EFFECT} sd on, and from anything on")
    print(f"{'column':24}{'evidence':>9} {f'>= {MIN_EFFECT}':>7} {'any':>5}  what it says")
    for name in PEOPLE:
        stream = Stream.of(before[name].to_numpy(np.float64), ROWS_A_WINDOW)
        windows = _windows(after[name])
        large = watch(stream.again(), windows, min_effect=MIN_EFFECT)
        every = watch(stream, windows)
        if large.alert is not None:
            missed.append(f"{name} of the employment data alarms in spite of min_effect: {large.text}")
        if every.alert is not None and " sd, surely by " not in every.text:
            missed.append(f"{name} of the employment data alarms without saying how small it is: {every.text}")
        print(f"{name:24}{stream.calibration.kind:>9} {large.found:>7} {every.found:>5}  {every.text}")
        told[name] = {
            "with min_effect": large.alert,
            "says with min_effect": large.text,
            "found in window": every.alert,
            "says": every.text,
        }
    if not any(one["found in window"] for one in told.values()):
        missed.append("the employment data do not alarm without min_effect")
    return {"min_effect": MIN_EFFECT, "columns": told}, missed


def _windows(column: "pd.Series[Any]") -> Floats:
    values = column.to_numpy(np.float64)
    return values[: len(values) // ROWS_A_WINDOW * ROWS_A_WINDOW].reshape(-1, ROWS_A_WINDOW)


def _by_year(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([year.sample(frac=1, random_state=1) for _, year in rows.groupby("year")])


# ── the light of the day ─────────────────────────────────────────────────────────────────────────────────────────

ZONE = "Europe/Zurich"
# A June without a change of clocks, from a Monday on; one frame a minute.
DAYS_BASELINE, DAYS_WATCHED, MINUTES_A_WINDOW = 7, 14, 30
BEGINS_NS = int(datetime(2026, 6, 1, tzinfo=ZoneInfo(ZONE)).timestamp()) * NS_PER_S
WINDOWS_A_DAY = 24 * 60 // MINUTES_A_WINDOW
# The lens gets dirty on the third day of watching, at ten.
DIRTY_DAY, DIRTY_HOUR, DIRTY_DAYS, DIRT = 2, 10, 2, 0.1
# At night some lamps stay on; the shop is lit from seven to eight in the evening, and the sun is up from 5:30 to 21:30.
LAMPS_NIGHT, LAMPS_ON, SUN_UP = 0.25, (7, 20), (5.5, 21.5)


def weather(days: int, seed: int) -> Floats:
    """Return which share of the sun comes through the clouds, minute by minute.

    Days differ (a third of the sun), and clouds pass within the hour.
    """
    draw = np.random.default_rng(seed)
    minutes = days * 24 * 60
    clouds = np.empty(minutes)
    level, keep = 0.0, float(np.exp(-1 / 20))
    for i, shock in enumerate(draw.normal(size=minutes)):
        level = keep * level + np.sqrt(1 - keep * keep) * shock
        clouds[i] = level
    return np.clip(np.repeat(draw.uniform(0.65, 1.0, days), 24 * 60) * (1 + 0.15 * clouds), 0.0, 1.1)


def intensity(share: Floats, dirt: float = 0.0, first: int = 0) -> Floats:
    """Render a frame a minute and return the intensity that the image observer sees."""
    shelf = Shelf(7)
    light = 1 - dirt
    values = np.empty(len(share))
    for i, clear in enumerate(share):
        hour = (first + i) / 60 % 24
        lamps = 1.0 if LAMPS_ON[0] <= hour < LAMPS_ON[1] else LAMPS_NIGHT
        height = np.sin(np.pi * (hour - SUN_UP[0]) / (SUN_UP[1] - SUN_UP[0])) if SUN_UP[0] < hour < SUN_UP[1] else 0.0
        frame = shelf.frame(first + i, lamps=light * lamps, sun=light * float(height * clear))
        values[i] = image_fields(frame)["avg_px_intensity"]
    return values


def daylight() -> tuple[dict[str, Any], list[str]]:
    """Show three weeks of a shop's light: a seasonal baseline, and one of a few hours."""
    sky = weather(DAYS_BASELINE + DAYS_WATCHED, seed=1)
    values = intensity(sky).reshape(-1, MINUTES_A_WINDOW)
    starts = [BEGINS_NS + i * MINUTES_A_WINDOW * 60 * NS_PER_S for i in range(len(values))]
    cut = DAYS_BASELINE * WINDOWS_A_DAY
    seasonal = Stream.of(values[:cut].ravel(), MINUTES_A_WINDOW, starts_ns=starts[:cut], cycle="day", zone=ZONE)
    dirty_from = cut + DIRTY_DAY * WINDOWS_A_DAY + DIRTY_HOUR * 60 // MINUTES_A_WINDOW
    minute = dirty_from * MINUTES_A_WINDOW
    dirty_sky = sky[minute : minute + DIRTY_DAYS * 24 * 60]
    dirty = intensity(dirty_sky, DIRT, minute).reshape(-1, MINUTES_A_WINDOW)
    healthy = watch(seasonal.again(), values[cut:], starts_ns=starts[cut:])
    watch(seasonal, values[cut:dirty_from], starts_ns=starts[cut:dirty_from])
    found = watch(seasonal, dirty, starts_ns=starts[dirty_from : dirty_from + len(dirty)])
    plain = {f"{hours} h": _plain(values, cut, hours) for hours in (6, 24, 7 * 24)}
    print(
        f"\n{DAYS_WATCHED} days of daylight, {MINUTES_A_WINDOW} minutes a window, {len(values) - cut} windows watched"
    )
    print(f"seasonal, {DAYS_BASELINE} days: healthy {healthy.found} (largest {healthy.largest}), ", end="")
    print(f"a lens {DIRT:.0%} darker found in window {found.found}: {found.text}")
    for name, one in plain.items():
        print(f"plain, {name:>5}: {one if isinstance(one, str) else f'healthy alarm in window {one.found}'}")
    missed: list[str] = []
    if healthy.alert is not None:
        missed.append(f"the seasonal baseline alarms in window {healthy.alert} of healthy daylight")
    if found.alert is None:
        missed.append(f"a lens {DIRT:.0%} darker is not found by the seasonal baseline within {DIRTY_DAYS} days")
    few = plain["6 h"]
    if isinstance(few, str) or few.alert is None:
        missed.append("a plain baseline of six hours does not alarm over the day")
    return {
        "why": seasonal.calibration.why,
        "windows watched": healthy.windows,
        "seasonal: found in window": healthy.alert,
        "seasonal: largest evidence": healthy.largest,
        "seasonal: dirty lens found in window": found.alert,
        "says": found.text,
        "plain": {name: one if isinstance(one, str) else one.alert for name, one in plain.items()},
    }, missed


def _plain(values: Floats, cut: int, hours: int) -> Watched | str:
    """Return what a baseline without seasons makes of the same weeks: of the hours from nine on, or of whole days."""
    first = 9 * 60 // MINUTES_A_WINDOW if hours < 24 else 0
    try:
        stream = Stream.of(values[first : first + hours * 60 // MINUTES_A_WINDOW].ravel(), MINUTES_A_WINDOW)
    except InvalidInputError as error:
        return f"refused: {error}"
    return watch(stream, values[cut:])


# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────


def real(samples: Path) -> tuple[dict[str, Any], list[str]]:
    """Run everything and print its tables; return the document of results, and each figure that misses its target."""
    cv2.setNumThreads(1)
    data = nannyml_data()
    document: dict[str, Any] = {"alarm_at": ALARM_AT}
    missed: list[str] = []
    for name, part in (
        ("clip", lambda: clip(samples)),
        ("loans", lambda: loans(data)),
        ("employment", lambda: people(data)),
        ("daylight", daylight),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        told, misses = part()
        spent = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
        document[name] = told | spent
        missed += misses
    return document, missed


def main() -> int:
    """Run, write the results, and return 1 where a target is missed."""
    document, missed = real(Path(os.environ.get("DRIFTLINE_SAMPLES", "samples")))
    versions = {"opencv": cv2.__version__, "onnxruntime": onnxruntime.__version__, "data": NANNYML}
    RESULTS.parent.mkdir(exist_ok=True)
    whole = {"machine": machine() | versions, **document, "missed": missed}
    RESULTS.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    print("\n" + ("\n".join(f"MISSED {one}" for one in missed) or "every target is met"))
    return 1 if missed else 0
