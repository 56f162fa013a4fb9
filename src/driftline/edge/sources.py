"""Where frames come from: a clip, a folder of pictures, a camera, or your own Python.

Two kinds, with two promises. A **paced** source (clip, folder, Python) has a schedule: frame i belongs at
`start + i / rate`, none is ever dropped, and on a slow machine each still carries its scheduled time, so that it is
counted in the window it belongs to. A **live** source (camera index, RTSP, HTTP; `driftline.edge.cameras`) shows the
present: what cannot be looked at in time is passed over.

`watermark_ns` is what lets windows close on time: up to there no frame can come any more.
"""

import importlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from driftline.clock import NS_PER_S, Clock
from driftline.edge.timekeeping import STEP_NS, offset_ns
from driftline.errors import InvalidInputError

Frame = NDArray[np.uint8]

log = logging.getLogger("driftline.edge")
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
LIVE_SCHEMES = frozenset({"http", "https", "rtmp", "rtsp", "rtsps", "tcp", "udp"})
# Where a clip does not say its rate, and the rate at which pictures of a folder (and Python without `.rate`) pass.
CLIP_RATE = 25.0
PICTURE_RATE = 1.0
# How long a wait lasts before the clock is asked again: wall clocks step.
WAIT_S_MAX = 0.5


class Source(Protocol):
    """Something that shows frames. `frames` runs in one thread, everything else may be called from others."""

    name: str

    @property
    def state(self) -> str:
        """`starting`, `ok`, `camera lost`, `feed frozen`, `ended` or `error: …`."""
        ...

    def begin(self, now_ns: int, from_ns: int | None = None) -> int:
        """Make ready to show frames; return the time before which none will come.

        Of a paced source that was given its start, frames scheduled before `from_ns` are not shown: they were counted
        before a restart.
        """
        ...

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Yield each frame with its time, ns since 1970 UTC; a frame is uint8 BGR of shape (height, width, 3).

        Called again after an error it goes on where it stopped.
        """
        ...

    def watermark_ns(self, now_ns: int) -> int:
        """Return the time before which every frame has been yielded and taken; never later than `now_ns`."""
        ...

    def close(self) -> None:
        """Stop: `frames` ends soon."""
        ...


class Reel(Protocol):
    """Frames in order, played from the front as often as wanted."""

    rate: float
    length: int | None
    """Frames in one pass, known once a pass has reached its end."""

    def play(self, skip: int) -> Iterator[Frame]:
        """Yield one pass without its first `skip` frames."""
        ...


def open_source(
    spec: str,
    rate: float | None,
    *,
    loop: bool,
    start_ns: int | None,
    clock: Clock,
) -> Source:
    """Open what `--camera` names; `rate` is frames a second, None the source's own.

    A paced source shows its first frame at `start_ns`, or when it begins where that is None. A live source takes no
    notice of `loop` and `start_ns`.

    Raises:
        InvalidInputError: nothing is there, or it cannot be decoded; the message says what would do.
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise InvalidInputError(f"--rate {rate:g} is not a number of frames a second; give one above 0")
    if is_live(spec):
        from driftline.edge.cameras import LiveSource, opener

        return LiveSource(opener(spec), redacted(spec), rate, clock)
    reel = _reel(spec)
    return PacedSource(reel, redacted(spec), rate or reel.rate, loop=loop, start_ns=start_ns, clock=clock)


def is_live(spec: str) -> bool:
    """Say whether this source shows the present: a camera's index or a stream's address.

    >>> is_live("0"), is_live("rtsp://camera/1"), is_live("shelf.mp4")
    (True, True, False)
    """
    return spec.isdigit() or ("://" in spec and urlsplit(spec).scheme.lower() in LIVE_SCHEMES)


def redacted(spec: str) -> str:
    """Return a name for a source that may leave the device: no password, no token.

    >>> redacted("rtsp://admin:secret@10.0.0.7:554/stream?token=1"), redacted("python:shop:till?pin=1234")
    ('rtsp://10.0.0.7:554/stream', 'python:shop:till')
    """
    if spec.startswith("python:"):
        return spec.partition("?")[0]
    if "://" not in spec:
        return spec
    parts = urlsplit(spec)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class PacedSource:
    """Shows a reel frame by frame as the clock reaches each frame's time; when late, at once.

    Where no start was given, the schedule follows the wall clock when that is set: a device that booted in 1970 would
    else be late by decades, and one that was set back a day would see nothing for a day. A given start means just that.
    """

    def __init__(
        self,
        reel: Reel,
        name: str,
        rate: float,
        *,
        loop: bool,
        start_ns: int | None,
        clock: Clock,
    ) -> None:
        self.name = name
        self.rate = rate
        self._reel = reel
        self._loop = loop
        self._start_ns = start_ns
        self._follows = start_ns is None
        self._clock = clock
        self._offset_ns = offset_ns(clock)
        self._stop = threading.Event()
        self._state = "starting"
        # The frame to show next; moved on only when the consumer, done with one, comes back for the next.
        self._index = 0
        # The next frame's time; None while no frame can be expected: not begun, ended, torn.
        self._next_ns: int | None = None

    @property
    def state(self) -> str:
        """`starting` until it begins, `ok` until the last frame, then `ended`; `error: …` where the reel tore."""
        return self._state

    def begin(self, now_ns: int, from_ns: int | None = None) -> int:
        """Put frame 0 at the start, or at `now_ns` where none was given; return the first shown frame's time."""
        if self._start_ns is None:
            self._start_ns = now_ns
            self._offset_ns = offset_ns(self._clock)
        elif from_ns is not None:
            self._index = self._index_from(from_ns)
        self._state = "ok"
        self._next_ns = self.time_ns(self._index)
        return self._next_ns

    def time_ns(self, index: int) -> int:
        """Return the time at which frame `index` (from 0, over all passes) belongs."""
        return (self._start_ns or 0) + int(index * NS_PER_S / self.rate)

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """Yield every frame at its time, and pass after pass where the source loops."""
        self._next_ns = self.time_ns(self._index)
        try:
            yield from self._all()
        except Exception as error:
            self._state = f"error: {error}"
            self._next_ns = None
            raise
        if not self._stop.is_set():
            self._state = "ended"
            self._next_ns = None

    def watermark_ns(self, now_ns: int) -> int:
        """Return the next frame's scheduled time, or now where none is expected; after `close` it stays."""
        next_ns = self._next_ns
        return now_ns if next_ns is None else min(now_ns, next_ns)

    def close(self) -> None:
        """Stop before the next frame."""
        self._stop.set()

    def _all(self) -> Iterator[tuple[int, Frame]]:
        skip = self._index
        while not self._stop.is_set():
            for frame in self._reel.play(skip):
                if not self._wait():
                    return
                self._state = "ok"
                yield self.time_ns(self._index), frame
                self._index += 1
                self._next_ns = self.time_ns(self._index)
            if not self._loop:
                return
            if not self._reel.length:
                raise InvalidInputError(f"{self.name} shows no frame at all; give another source with --camera")
            # A restart far into a loop: whole passes are skipped by arithmetic, once a pass's length is known.
            skip = max(0, skip - self._reel.length) % self._reel.length

    def _wait(self) -> bool:
        """Wait until the next frame is due; False where the source was closed meanwhile."""
        self._follow_clock()
        while (wait_s := self._clock.wait_s(self.time_ns(self._index))) > 0:
            if self._stop.wait(min(wait_s, WAIT_S_MAX)):
                return False
            self._follow_clock()
        return not self._stop.is_set()

    def _follow_clock(self) -> None:
        """Move the schedule with a wall clock that was set, as the recorder begins anew."""
        now_offset_ns = offset_ns(self._clock)
        moved_ns = now_offset_ns - self._offset_ns
        if self._follows and abs(moved_ns) >= STEP_NS:
            self._start_ns = (self._start_ns or 0) + moved_ns
            self._offset_ns = now_offset_ns
            self._next_ns = self.time_ns(self._index)

    def _index_from(self, from_ns: int) -> int:
        index = max(0, math.ceil((from_ns - self.time_ns(0)) * self.rate / NS_PER_S))
        while index > 0 and self.time_ns(index - 1) >= from_ns:
            index -= 1
        while self.time_ns(index) < from_ns:
            index += 1
        return index


# ── reels ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _reel(spec: str) -> Reel:
    if spec.startswith("python:"):
        return PythonReel(spec)
    path = Path(spec).expanduser()
    if path.is_dir():
        pictures = sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGE_SUFFIXES)
        return FolderReel(pictures, spec)
    if path.is_file():
        return FolderReel([path], spec) if path.suffix.lower() in IMAGE_SUFFIXES else ClipReel(path)
    raise InvalidInputError(
        f"camera {spec!r}: there is no such file; --camera takes a video file, a folder of images, a camera's index "
        "such as 0, an rtsp:// or http:// address, or python:module:factory"
    )


class ClipReel:
    """A video file, as far as OpenCV's FFmpeg decodes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.length: int | None = None
        capture = self._open()
        try:
            if not capture.grab():
                raise self._undecodable()
            rate = capture.get(cv2.CAP_PROP_FPS)
        finally:
            capture.release()
        self.rate = rate if 0 < rate <= 1000 else CLIP_RATE

    def play(self, skip: int) -> Iterator[Frame]:
        """Yield the clip's frames; those skipped are decoded but not converted."""
        capture = self._open()
        try:
            count = 0
            while count < skip and capture.grab():
                count += 1
            while count >= skip:
                there, frame = capture.read()
                if not there:
                    break
                count += 1
                yield cast("Frame", frame)
            self.length = count
        finally:
            capture.release()

    def _open(self) -> "cv2.VideoCapture":
        # One decoding thread: a device has other work for its cores, and a clip needs no more.
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            raise self._undecodable()
        return capture

    def _undecodable(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self._path.name} cannot be decoded as video: it is damaged, or of a codec that OpenCV does not read; "
            f"convert it with: ffmpeg -i {self._path.name} -c:v libx264 converted.mp4"
        )


class FolderReel:
    """Pictures in the order of their names; those that cannot be decoded are passed over, and the log says how many."""

    def __init__(self, pictures: list[Path], name: str) -> None:
        self._pictures = pictures
        self._name = name
        self.rate = PICTURE_RATE
        self.length: int | None = None
        self._unreadable = 0
        if not pictures:
            raise InvalidInputError(
                f"the folder {name} holds no image; images are files named {', '.join(sorted(IMAGE_SUFFIXES))}"
            )

    def play(self, skip: int) -> Iterator[Frame]:
        """Yield the folder's pictures."""
        count = unreadable = 0
        for path in self._pictures:
            frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if frame is None:
                unreadable += 1
                continue
            count += 1
            if count > skip:
                yield cast("Frame", frame)
        if count == 0:
            raise InvalidInputError(
                f"none of the {unreadable} images of {self._name} can be decoded; save them as JPEG or PNG"
            )
        if unreadable != self._unreadable:
            self._unreadable = unreadable
            log.warning(
                "%d of the %d images of %s cannot be decoded and are passed over",
                unreadable,
                len(self._pictures),
                self._name,
            )
        self.length = count


class PythonReel:
    """Frames from the device owner's own function, named on the device's own command line and never by the hub.

    `python:module:factory?key=value` calls `factory(key="value")`, which returns an iterable of BGR uint8 frames and
    may say their rate in an attribute `rate`. A loop calls it again.
    """

    def __init__(self, spec: str) -> None:
        self._name = redacted(spec)
        target, _, query = spec.removeprefix("python:").partition("?")
        self._factory = _factory(target, self._name)
        self._arguments = dict(parse_qsl(query, keep_blank_values=True))
        self.length: int | None = None
        self._made: Iterable[object] | None = self._make()
        self.rate = float(getattr(self._made, "rate", PICTURE_RATE))

    def play(self, skip: int) -> Iterator[Frame]:
        """Yield what the factory's iterable yields, checked."""
        frames, self._made = self._made, None
        count = 0
        for frame in frames if frames is not None else self._make():
            count += 1
            if count > skip:
                yield self._checked(frame)
        self.length = count

    def _make(self) -> Iterable[object]:
        try:
            return self._factory(**self._arguments)
        except TypeError as error:
            raise InvalidInputError(f"camera {self._name!r}: {error}") from error

    def _checked(self, frame: object) -> Frame:
        if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
            return cast("Frame", frame)
        shown = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InvalidInputError(
            f"camera {self._name!r} yielded {shown}; a frame is a uint8 array of shape (height, width, 3), BGR"
        )


def _factory(target: str, spec: str) -> Callable[..., Iterable[object]]:
    module, _, name = target.partition(":")
    if not module or not name:
        raise InvalidInputError(f"camera {spec!r} is not of the form python:module:factory?key=value")
    try:
        found: Mapping[str, Any] = vars(importlib.import_module(module))
    except ImportError as error:
        raise InvalidInputError(
            f"camera {spec!r}: {error}; the module must be importable where driftline runs (PYTHONPATH)"
        ) from error
    factory = found.get(name)
    if not callable(factory):
        raise InvalidInputError(f"camera {spec!r}: module {module} has no function {name}")
    return cast("Callable[..., Iterable[object]]", factory)
