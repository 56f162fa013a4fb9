import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.clock import NS_PER_S, ManualClock, SystemClock
from driftline.edge.cameras import Feed, LiveSource, opener, same
from driftline.edge.sources import open_source

TIMEOUT_S = 20.0


class Viewer:
    """Takes every frame a source shows, in a thread."""

    def __init__(self, source: LiveSource) -> None:
        self.times_ns: list[int] = []
        self._thread = threading.Thread(target=self._look, args=(source,), daemon=True)
        self._thread.start()

    def _look(self, source: LiveSource) -> None:
        for time_ns, frame in source.frames():
            assert frame.shape == (48, 64, 3)
            self.times_ns.append(time_ns)

    def ended(self) -> bool:
        self._thread.join(TIMEOUT_S)
        return not self._thread.is_alive()


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def live(stream: Any, rate: float | None = None, **settings: float) -> LiveSource:
    return LiveSource(opener(stream.url), "camera", rate, SystemClock(), pause_s=0.05, **settings)


def test_a_network_camera_shows_the_present_at_the_wanted_rate(stream: Any):
    source = open_source(stream.url, 20, loop=False, start_ns=None, clock=SystemClock())
    assert isinstance(source, LiveSource)
    assert source.state == "starting"
    now_ns = SystemClock().now_ns()
    assert source.begin(now_ns, from_ns=0) == now_ns
    viewer = Viewer(source)
    until(lambda: len(viewer.times_ns) >= 8)
    assert source.state == "ok"
    source.close()
    assert viewer.ended()
    gaps = np.diff(viewer.times_ns) / NS_PER_S
    assert np.median(gaps) == pytest.approx(0.05, abs=0.03)
    assert source.state == "ended"


def test_a_camera_that_goes_away_is_lost_and_comes_back_by_itself(stream: Any):
    source = live(stream, lost_after_s=0.3)
    viewer = Viewer(source)
    until(lambda: source.state == "ok")
    stream.broken = True
    until(lambda: source.state == "camera lost")
    stream.broken = False
    seen = len(viewer.times_ns)
    until(lambda: source.state == "ok" and len(viewer.times_ns) > seen)
    source.close()
    assert viewer.ended()


def test_a_camera_that_was_never_there_is_lost_and_windows_still_close(stream: Any):
    stream.broken = True
    source = live(stream, lost_after_s=0.2)
    viewer = Viewer(source)
    until(lambda: source.state == "camera lost")
    assert source.watermark_ns(12345) == 12345
    source.close()
    assert viewer.ended()


def test_a_feed_that_stands_still_is_frozen_until_it_moves(stream: Any):
    source = live(stream, frozen_after_s=0.2)
    viewer = Viewer(source)
    until(lambda: source.state == "ok" and len(viewer.times_ns) > 2)
    stream.standing_still = True
    until(lambda: source.state == "feed frozen")
    stream.standing_still = False
    until(lambda: source.state == "ok")
    source.close()
    assert viewer.ended()


class Scripted:
    """A camera that shows a picture whenever it is told to."""

    def __init__(self) -> None:
        self.shutter = threading.Semaphore(0)
        self.number = 0

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def release(self) -> None:
        pass

    def grab(self) -> bool:
        self.shutter.acquire(timeout=0.2)
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        self.number += 1
        return True, np.full((4, 4, 3), self.number, np.uint8)


def test_a_slow_viewer_misses_frames_never_sees_old_ones_and_holds_the_watermark():
    clock = ManualClock(1000)
    camera = Scripted()
    source = LiveSource(lambda: camera, "camera", None, clock)
    frames = source.frames()
    camera.shutter.release()
    time_ns, first = next(frames)
    assert time_ns == 1000
    for _ in range(5):
        clock.advance(1)
        camera.shutter.release()
        seen = camera.number
        until(lambda: camera.number > seen)  # noqa: B023
    # The frame being looked at is not yet counted: its window must stay open.
    assert source.watermark_ns(clock.now_ns()) == 1000
    _, second = next(frames)
    assert second[0, 0, 0] >= first[0, 0, 0] + 5
    source.close()


def test_a_feed_is_frozen_only_when_byte_for_byte_the_same_for_long_enough():
    feed = Feed(frozen_after_ns=10)
    dark = np.zeros((200, 100, 3), np.uint8)
    noisy = dark.copy()
    noisy[130, 7, 1] = 1
    for time_ns, frame, frozen in [
        (0, dark, False),
        (9, dark, False),
        (10, dark, True),
        (11, noisy, False),
        (20, noisy, False),
    ]:
        feed.saw(time_ns, frame)
        assert feed.frozen is frozen
    assert not same(dark, noisy)
    assert not same(dark, dark[:100])
