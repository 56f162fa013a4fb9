"""The chart of a mail: the scores of an incident's devices as a PNG, drawn with what the hub has anyway.

It shows how near each window was to an alarm, as the strips of the dashboard do: 1 and more is one. Lettering is
OpenCV's own, which knows ASCII alone; the chart with everything is in the dashboard.
"""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from driftline.hub.moments import minute
from driftline.hub.store.assays import Mark

# Drawn at twice its size and made smaller, so that lines and letters are smooth.
SCALE = 2
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 40, 34
# Three alarms high is high enough; four orders of magnitude below one, evidence is none.
LEVEL_MAX, MAGNITUDES = 3.0, 4
STREAMS_MAX = 5
# Blue, green and red as OpenCV has them; told apart by their marks, too.
_COLOURS = ((157, 92, 11), (82, 112, 18), (131, 52, 123), (20, 110, 176), (102, 97, 85))
_INK, _SOFT, _ALERT = (48, 36, 27), (222, 216, 208), (26, 26, 192)

Canvas = NDArray[np.uint8]


def png(title: str, streams: Mapping[str, Sequence[Mark]], *, promised: bool) -> bytes | None:
    """Draw the last windows of some devices; None where there is nothing to draw.

    Under a promise the scale is logarithmic, as evidence is.
    """
    shown = {name: marks for name, marks in streams.items() if any(one.level is not None for one in marks)}
    if not shown:
        return None
    times = [at for marks in shown.values() for one in marks for at in (one.start_ns, one.end_ns)]
    first_ns, last_ns = min(times), max(times)
    canvas: Canvas = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), 255, np.uint8)
    _write(canvas, title, 10, 22, _INK, 0.5)
    limit_y = _y(1.0, promised=promised)
    _line(canvas, (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), _SOFT)
    for x in range(LEFT, WIDTH - RIGHT, 10):
        _line(canvas, (x, limit_y), (min(x + 5, WIDTH - RIGHT), limit_y), _ALERT)
    _write(canvas, "alarm", 4, limit_y + 4, _ALERT, 0.38)
    x = float(LEFT)
    for at, (name, marks) in enumerate(list(shown.items())[:STREAMS_MAX]):
        _draw(canvas, marks, _COLOURS[at], (first_ns, last_ns), promised=promised)
        width = _width(name, 0.38)
        # A name that has no room beside the others is left out: the mail lists every device.
        if x + width <= WIDTH - RIGHT:
            _write(canvas, name, x, TOP + 2, _COLOURS[at], 0.38)
        x += width + 18
    _write(canvas, minute(first_ns), LEFT, HEIGHT - 12, _INK, 0.38)
    _write(canvas, minute(last_ns), WIDTH - RIGHT - 130, HEIGHT - 12, _INK, 0.38)
    small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png", small)
    return data.tobytes() if done else None


def _draw(
    canvas: Canvas, marks: Sequence[Mark], colour: tuple[int, int, int], span: tuple[int, int], *, promised: bool
) -> None:
    before: tuple[float, float] | None = None
    for one in marks:
        if one.level is None:
            before = None  # a gap stays one
            continue
        here = (_x(one.end_ns, span), _y(one.level, promised=promised))
        if before is not None:
            _line(canvas, before, here, colour)
        if one.status == "Alert":
            cv2.drawMarker(canvas, _at(here), colour, cv2.MARKER_TRIANGLE_UP, 8 * SCALE, 2 * SCALE, cv2.LINE_AA)
        else:
            cv2.circle(canvas, _at(here), 2 * SCALE, colour, -1, cv2.LINE_AA)
        before = here


def _x(at_ns: int, span: tuple[int, int]) -> float:
    first_ns, last_ns = span
    return LEFT + (WIDTH - LEFT - RIGHT) * (at_ns - first_ns) / max(1, last_ns - first_ns)


def _y(level: float, *, promised: bool) -> float:
    room = HEIGHT - TOP - BOTTOM - 14
    if promised:
        magnitude = math.log10(min(max(level, 10.0**-MAGNITUDES), 10.0))
        share = (magnitude + MAGNITUDES) / (MAGNITUDES + 1)
    else:
        share = min(max(level, 0.0), LEVEL_MAX) / LEVEL_MAX
    return HEIGHT - BOTTOM - room * share


def _line(canvas: Canvas, a: tuple[float, float], b: tuple[float, float], colour: tuple[int, int, int]) -> None:
    cv2.line(canvas, _at(a), _at(b), colour, SCALE, cv2.LINE_AA)


def _width(text: str, size: float) -> float:
    (width, _), _ = cv2.getTextSize(_plain(text), cv2.FONT_HERSHEY_SIMPLEX, size * SCALE, SCALE)
    return width / SCALE


def _plain(text: str) -> str:
    return text.replace("–", "-").encode("ascii", "replace").decode()


def _write(canvas: Canvas, text: str, x: float, y: float, colour: tuple[int, int, int], size: float) -> None:
    cv2.putText(canvas, _plain(text), _at((x, y)), cv2.FONT_HERSHEY_SIMPLEX, size * SCALE, colour, SCALE, cv2.LINE_AA)


def _at(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * SCALE), round(point[1] * SCALE)
