import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.clock import NS_PER_S, ManualClock, SystemClock
from driftline.edge.sources import PacedSource, Source, open_source, redacted
from driftline.errors import InvalidInputError

START_NS = 1_767_261_600 * NS_PER_S
LATE = ManualClock(START_NS + 3600 * NS_PER_S)  # everything scheduled before has passed: nothing waits


def picture(number: int) -> NDArray[np.uint8]:
    return np.full((48, 64, 3), 20 * number + 10, np.uint8)


def number_of(frame: NDArray[np.uint8]) -> int:
    return round((float(frame.mean()) - 10) / 20)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for number in range(6):
        writer.write(picture(number))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for number in range(3):
        cv2.imwrite(str(made / f"{number}.png"), picture(number))
    (made / "1b.png").write_bytes(b"this is no picture")
    (made / "notes.txt").write_text("neither is this")
    return made


def opened(
    spec: Path | str, *, rate: float | None = None, loop: bool = False, from_ns: int | None = None
) -> PacedSource:
    source = open_source(str(spec), rate, loop=loop, start_ns=START_NS, clock=LATE)
    assert isinstance(source, PacedSource)
    source.begin(LATE.now_ns(), from_ns)
    return source


def shown(source: Source, count: int | None = None) -> list[tuple[float, int]]:
    """Seconds after the start, and which picture, of the first `count` frames."""
    found: list[tuple[float, int]] = []
    for time_ns, frame in source.frames():
        found.append(((time_ns - START_NS) / NS_PER_S, number_of(frame)))
        if len(found) == count:
            break
    return found


def test_a_clip_shows_every_frame_at_its_own_rate(clip: Path):
    source = opened(clip)
    assert shown(source) == [(pytest.approx(index / 5), index) for index in range(6)]
    assert source.state == "ended"
    assert source.watermark_ns(LATE.now_ns()) == LATE.now_ns()


def test_a_given_rate_replaces_the_clips(clip: Path):
    assert [when for when, _ in shown(opened(clip, rate=0.5))] == [0, 2, 4, 6, 8, 10]


def test_a_looped_clip_starts_again_and_time_goes_on(clip: Path):
    found = shown(opened(clip, rate=1, loop=True), count=14)
    assert found == [(index, index % 6) for index in range(14)]


def test_a_folder_shows_its_pictures_in_order_and_passes_over_what_is_none(
    folder: Path, caplog: pytest.LogCaptureFixture
):
    assert shown(opened(folder, loop=True), 6)[:3] == [(0, 0), (1, 1), (2, 2)]
    assert caplog.text.count("1 of the 4 images") == 1  # said once, not with every pass


def test_a_single_picture_is_a_source_too(folder: Path):
    assert shown(opened(folder / "2.png", loop=True), count=3) == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("from_s", "first"), [(0, (0, 0)), (2.0, (2, 2)), (2.001, (3, 3)), (7, (7, 1)), (600, (600, 0))]
)
def test_after_a_restart_a_source_goes_on_with_the_first_frame_not_yet_counted(
    clip: Path, from_s: float, first: tuple[float, int]
):
    source = opened(clip, rate=1, loop=True, from_ns=START_NS + int(from_s * NS_PER_S))
    assert source.watermark_ns(LATE.now_ns()) == START_NS + int(first[0] * NS_PER_S)
    assert shown(source, count=1) == [first]


def test_a_clip_that_had_ended_before_a_restart_stays_ended(clip: Path):
    source = opened(clip, rate=1, from_ns=START_NS + 60 * NS_PER_S)
    assert shown(source) == []
    assert source.state == "ended"


def test_without_a_start_the_first_frame_belongs_to_the_moment_the_source_begins(clip: Path):
    clock = ManualClock(START_NS)
    source = open_source(str(clip), 1, loop=False, start_ns=None, clock=clock)
    clock.advance(100)
    assert source.state == "starting"
    assert source.watermark_ns(clock.now_ns()) == clock.now_ns()
    # Where counting stopped before a restart says nothing about a source that starts whenever it is started.
    assert source.begin(clock.now_ns(), from_ns=START_NS + 1000 * NS_PER_S) == START_NS + 100 * NS_PER_S
    time_ns, _ = next(iter(source.frames()))
    assert time_ns == START_NS + 100 * NS_PER_S


def test_the_watermark_moves_on_only_when_a_frame_has_been_dealt_with(clip: Path):
    source = opened(clip, rate=1)
    frames = source.frames()
    now_ns = LATE.now_ns()
    for index in range(3):
        time_ns, _ = next(frames)
        assert source.watermark_ns(now_ns) == time_ns == START_NS + index * NS_PER_S
    # It never runs ahead of the clock either.
    assert source.watermark_ns(START_NS - 5) == START_NS - 5


def test_a_frame_waits_for_its_time_and_close_ends_the_wait(clip: Path):
    start_ns = SystemClock().now_ns() + 150_000_000
    source = open_source(str(clip), 0.001, loop=False, start_ns=start_ns, clock=SystemClock())
    source.begin(SystemClock().now_ns())
    frames = source.frames()
    time_ns, _ = next(frames)
    assert time_ns == start_ns <= SystemClock().now_ns()
    threading.Timer(0.05, source.close).start()
    began = time.monotonic()
    assert list(frames) == []
    assert time.monotonic() - began < 5
    # It was stopped, not ended: what it still has to show is not behind the watermark.
    assert source.watermark_ns(start_ns + 10**15) == start_ns + 1000 * NS_PER_S


def test_a_clip_that_cannot_be_decoded_says_so_and_how_to_convert_it(tmp_path: Path):
    path = tmp_path / "torn.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 400)
    with pytest.raises(InvalidInputError, match=r"torn\.mp4 cannot be decoded.*ffmpeg -i"):
        opened(path)


def test_a_folder_in_which_nothing_can_be_decoded_is_an_error_and_not_an_empty_loop(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    source = opened(tmp_path, loop=True)
    with pytest.raises(InvalidInputError, match="none of the 1 images"):
        shown(source)
    assert source.state.startswith("error: none of the 1 images")
    # Windows go on to close while the owner repairs it.
    assert source.watermark_ns(LATE.now_ns()) == LATE.now_ns()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.mp4", "there is no such file"),
        ("python:shelf", "not of the form python:module:factory"),
        ("python:no_such_module:shelf", "must be importable"),
        ("python:driftline.clock:nothing", "has no function nothing"),
        ("python:driftline.clock:parse_iso?color=red", "color"),
    ],
)
def test_a_source_that_is_not_there_says_what_would_do(spec: str, says: str):
    with pytest.raises(InvalidInputError, match=says):
        opened(spec)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_above_zero(clip: Path, rate: float):
    with pytest.raises(InvalidInputError, match="--rate"):
        opened(clip, rate=rate)


def test_an_empty_folder_says_what_images_are(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"holds no image.*\.png"):
        opened(tmp_path)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_camera_for_tests.py").write_text(
        "import numpy as np\n"
        "tries = [0]\n"
        "class Frames:\n"
        "    rate = 4.0\n"
        "    def __init__(self, first): self.first = int(first)\n"
        "    def __iter__(self):\n"
        "        for number in range(self.first, self.first + 3):\n"
        "            yield np.full((48, 64, 3), 20 * number + 10, np.uint8)\n"
        "def torn(**_):\n"
        "    tries[0] += 1\n"
        "    for number in range(4):\n"
        "        if number == 2 and tries[0] < 3: raise OSError('the cable fell out')\n"
        "        yield np.full((48, 64, 3), 20 * number + 10, np.uint8)\n"
        "def grey():\n"
        "    yield np.zeros((4, 4), np.uint8)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "python:own_camera_for_tests"


def test_your_own_python_gives_frames_arguments_and_a_rate(own_module: str):
    found = shown(opened(f"{own_module}:Frames?first=2", loop=True), count=5)
    assert found == [(0, 2), (0.25, 3), (0.5, 4), (0.75, 2), (1.0, 3)]


def test_your_own_python_is_told_what_a_frame_is(own_module: str):
    with pytest.raises(InvalidInputError, match=r"yielded uint8 \(4, 4\); a frame is"):
        shown(opened(f"{own_module}:grey"))


def test_after_an_error_a_source_goes_on_with_the_very_next_frame(own_module: str):
    source = opened(f"{own_module}:torn", rate=1)
    found: list[int] = []
    for last in (False, False, True):
        frames = source.frames()
        if last:
            found += [number_of(frame) for _, frame in frames]
        else:
            with pytest.raises(OSError, match="the cable fell out"):
                found.extend(number_of(frame) for _, frame in frames)
            assert source.state == "error: the cable fell out"
    assert found == [0, 1, 2, 3]
    assert source.state == "ended"


def test_a_name_that_leaves_the_device_holds_no_password():
    assert redacted("http://user:secret@camera.shop:8080/mjpeg?token=abc") == "http://camera.shop:8080/mjpeg"
    assert redacted("python:shop:till?pin=1234") == "python:shop:till"
    assert redacted("/videos/shelf.mp4") == "/videos/shelf.mp4"


@pytest.mark.parametrize("step_s", [-86_400, 86_400, 1_700_000_000])
def test_a_schedule_that_began_now_follows_a_clock_that_is_set(clip: Path, step_s: int):
    clock = ManualClock(10 * NS_PER_S if step_s > 10**9 else START_NS)
    source = open_source(str(clip), 1, loop=True, start_ns=None, clock=clock)
    began_ns = clock.now_ns()
    source.begin(began_ns)
    frames = source.frames()
    assert next(frames)[0] == began_ns
    clock.set(began_ns + step_s * NS_PER_S)
    clock.advance(1)
    assert next(frames)[0] == began_ns + (step_s + 1) * NS_PER_S
    assert source.watermark_ns(clock.now_ns()) == clock.now_ns()


def test_a_schedule_whose_start_was_given_stays_where_it_is(clip: Path):
    clock = ManualClock(START_NS)
    source = open_source(str(clip), 1, loop=True, start_ns=START_NS, clock=clock)
    source.begin(START_NS)
    frames = source.frames()
    assert next(frames)[0] == START_NS
    clock.set(START_NS + 86_400 * NS_PER_S)
    assert next(frames)[0] == START_NS + NS_PER_S
