"""Live cameras: the present, frame by frame, and an honest word when it stops coming.

One thread only grabs, so that no stale frame waits in a buffer; it converts a frame to an array only when the rate
asks for one. A camera that goes away is opened again with growing pauses, for ever.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import cv2
import numpy as np

from driftline.clock import NS_PER_S, Clock
from driftline.edge.sources import Frame

# Real seconds without a frame until the camera counts as lost.
LOST_AFTER_S = 10.0
# Seconds on the clock of byte-identical frames until the feed counts as frozen; even a dark sensor has noise.
FROZEN_AFTER_S = 30.0
PAUSE_S_MAX = 30.0
# FFmpeg's own default is 30 s, for which a stop would have to wait.
NETWORK_TIMEOUT_MS = 5000


class Capture(Protocol):
    """What is used of OpenCV's `VideoCapture`."""

    def isOpened(self) -> bool:  # noqa: N802  # OpenCV's name
        """Say whether there is anything to grab from."""
        ...

    def grab(self) -> bool:
        """Wait for the next frame and keep it undecoded; False where there is none."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Decode what was grabbed."""
        ...

    def release(self) -> None:
        """Let the camera go."""
        ...


Opener = Callable[[], Capture]


def opener(spec: str) -> Opener:
    """Return what opens this camera: an index or an address."""
    if spec.isdigit():
        return lambda: cv2.VideoCapture(int(spec))
    options = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        NETWORK_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        NETWORK_TIMEOUT_MS,
        cv2.CAP_PROP_N_THREADS,
        1,
    ]
    return lambda: cv2.VideoCapture(spec, cv2.CAP_FFMPEG, options)


class LiveSource:
    """Shows the newest frame, at most `rate` a second; a slow consumer misses frames and never sees old ones."""

    def __init__(
        self,
        opener: Opener,
        name: str,
        rate: float | None,
        clock: Clock,
        *,
        lost_after_s: float = LOST_AFTER_S,
        frozen_after_s: float = FROZEN_AFTER_S,
        pause_s: float = 1.0,
    ) -> None:
        self.name = name
        self._open = opener
        self._period_ns = 0 if rate is None else int(NS_PER_S / rate)
        self._clock = clock
        self._lost_after_s = lost_after_s
        self._pause_s = pause_s
        self._feed = Feed(int(frozen_after_s * NS_PER_S))
        self._stop = threading.Event()
        self._news = threading.Condition()
        # Under `_news`: the frame nobody has taken yet, and the time of the one being looked at.
        self._newest: tuple[int, Frame] | None = None
        self._taken_ns: int | None = None
        self._seen = False
        self._last_real_s = time.monotonic()
        self._due_ns = 0

    @property
    def state(self) -> str:
        """`starting` until the first frame, then `ok`, `camera lost` or `feed frozen`; `ended` after `close`."""
        if self._stop.is_set():
            return "ended"
        if time.monotonic() - self._last_real_s > self._lost_after_s:
            return "camera lost"
        if not self._seen:
            return "starting"
        return "feed frozen" if self._feed.frozen else "ok"

    def begin(self, now_ns: int, from_ns: int | None = None) -> int:
        """Return `now_ns`: a live source shows the present, whatever was counted before."""
        del from_ns
        return now_ns

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Yield the newest frame each time one is there and due."""
        grabber = threading.Thread(target=self._grab_for_ever, name="camera", daemon=True)
        grabber.start()
        try:
            while not self._stop.is_set():
                newest = self._take()
                if newest is not None:
                    yield newest
        finally:
            self._stop.set()
            with self._news:
                self._newest = self._taken_ns = None
            grabber.join(2 * NETWORK_TIMEOUT_MS / 1000)

    def watermark_ns(self, now_ns: int) -> int:
        """Return the time of the oldest frame still being looked at, or now."""
        with self._news:
            waiting_ns = now_ns if self._newest is None else self._newest[0]
            taken_ns = now_ns if self._taken_ns is None else self._taken_ns
        return min(now_ns, waiting_ns, taken_ns)

    def close(self) -> None:
        """Stop; a grab that hangs is given up after the network timeout."""
        self._stop.set()
        with self._news:
            self._news.notify_all()

    def _take(self) -> tuple[int, Frame] | None:
        with self._news:
            self._taken_ns = None
            if self._newest is None and not self._stop.is_set():
                self._news.wait(0.5)
            newest, self._newest = self._newest, None
            if newest is not None:
                self._taken_ns = newest[0]
            return newest

    def _grab_for_ever(self) -> None:
        pause_s = self._pause_s
        while not self._stop.is_set():
            frames_before = self._feed.frames
            self._grab_until_lost()
            came = self._feed.frames > frames_before
            pause_s = self._pause_s if came else min(2 * pause_s, PAUSE_S_MAX)
            self._stop.wait(pause_s)

    def _grab_until_lost(self) -> None:
        capture = self._open()
        try:
            while not self._stop.is_set() and capture.isOpened() and capture.grab():
                self._last_real_s = time.monotonic()
                # By the steady clock: a wall clock that is set back must not hold frames up for as long.
                if self._clock.steady_ns() >= self._due_ns:
                    self._show(capture)
        finally:
            capture.release()

    def _show(self, capture: Capture) -> None:
        there, frame = capture.retrieve()
        if not there:
            return
        with self._news:
            # Stamped under the lock: a watermark asked for earlier is not later than this frame.
            self._newest = (self._clock.now_ns(), cast("Frame", frame))
            self._news.notify_all()
        self._seen = True
        steady_ns = self._clock.steady_ns()
        self._due_ns = max(self._due_ns + self._period_ns, steady_ns)
        self._feed.saw(steady_ns, cast("Frame", frame))


class Feed:
    """Notices when the picture stands still to the last bit."""

    def __init__(self, frozen_after_ns: int) -> None:
        self.frames = 0
        self.frozen = False
        self._frozen_after_ns = frozen_after_ns
        self._last: Frame | None = None
        self._since_ns = 0

    def saw(self, time_ns: int, frame: Frame) -> None:
        """Take note of a frame and when it came, by a clock that is never set; it is kept, not copied."""
        self.frames += 1
        if self._last is None or not same(self._last, frame):
            self._since_ns = time_ns
        self._last = frame
        self.frozen = time_ns - self._since_ns >= self._frozen_after_ns


def same(one: Frame, other: Frame) -> bool:
    """Say whether two frames are equal; those that differ are told apart by a few rows."""
    if one.shape != other.shape:
        return False
    return np.array_equal(one[::64], other[::64]) and np.array_equal(one, other)
