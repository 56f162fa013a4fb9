"""A rendered shop shelf: the camera of the demo, with ground truth and a lens that can be put out of focus.

One *pass* of the scene is `frames` frames. Its content repeats with every pass (people walk by, products are taken
and put back, daylight comes and goes), so that a healthy camera has a stable distribution to be compared with; sensor
noise and a slight difference in daylight make no two passes equal. Everything follows from the seed.

Lengths inside this module are in *units*: one unit is one pixel of a picture 320 pixels wide. The room is drawn once,
in `DETAIL` pixels a unit, then seen through a camera; a frame only lays ready sprites over a ready background.

>>> shelf = Shelf(1)
>>> shelf.frame(0).shape
(240, 320, 3)
>>> boxes, classes = shelf.boxes(0)
>>> sorted({CLASSES[label] for label in classes} - {"person"})
['bottle', 'box', 'can']
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

CLASSES = ("bottle", "box", "can", "person")
BOTTLE, BOX, CAN, PERSON = range(len(CLASSES))

Frame: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]
Random: TypeAlias = np.random.Generator

PICTURE_W, PICTURE_H = 320, 240
# The room reaches this far beyond the picture on every side, so that a turned camera never sees its end.
MARGIN = 44
ROOM_W, ROOM_H = PICTURE_W + 2 * MARGIN, PICTURE_H + 2 * MARGIN
DETAIL, BODY_DETAIL = 4, 2
VISIBLE_SHARE_MIN = 0.4
BLUR_REFERENCE_W = 640

SHELF_BASES = (92.0, 153.0, 214.0)  # where products stand, units below the picture's upper edge
BAY_H = 61.0
FLOOR_Y = 231.0
WALKERS = 4
TAKEN = 7  # products that are away for a part of the pass
GAIT_POSES = 8
NOISE_SLACK = 64
# Daylight within a pass moves the picture by some per cent; between passes by less than a tenth of that. Low-
# discrepancy steps (the golden ratio), not random ones: eight passes then cover the range of all later passes.
SUN_SWING, SUN_PASS_SWING, FLICKER = 0.36, 0.012, 0.008
WHITE = 232.0  # leaves room for the sun: what is clipped at 255 would make the mean depend on the lens
GOLDEN = 0.6180339887


def blurred(frame: Frame, sigma: float) -> Frame:
    """Return the frame as a defocused lens would show it; shape (height, width, 3) in and out.

    `sigma` is in pixels of a picture 640 wide and is scaled to the frame's width. A finished frame has its sensor noise
    smoothed too, which no lens does: for the rendered scene `Shelf.frame(index, blur_sigma=...)` is the honest fault.

    >>> flat = np.full((240, 320, 3), 90, np.uint8)
    >>> bool((blurred(flat, 5.0) == flat).all())
    True
    """
    if sigma <= 0:
        return frame.copy()
    return np.asarray(_defocused(frame, sigma), np.uint8)


class Shelf:
    """A camera that looks at one shop shelf; seeds differ in arrangement, decoration, people and camera.

    Args:
        seed: everything follows from it.
        width: of the picture, pixels.
        height: of the picture, pixels; another shape than 4:3 crops the scene.
        frames: length of one pass.
    """

    def __init__(self, seed: int, *, width: int = PICTURE_W, height: int = PICTURE_H, frames: int = 120) -> None:
        self.seed, self.width, self.height, self.frames = seed, width, height, frames
        rng = np.random.default_rng((seed, 0))
        camera = _camera(rng, width, height)
        theme = _THEMES[rng.integers(len(_THEMES))]
        products, tags = _arrangement(rng)
        self._background = camera.photograph(_room(rng, theme, tags))
        self._products = [camera.see(product.picture, product.left, product.top) for product in products]
        self._kinds = np.array([product.kind for product in products], np.int64)
        self._walkers = [_walker(rng, camera, turn, frames) for turn in range(WALKERS)]
        self._away = _absences(rng, products, self._products, self._walkers, frames)
        self._ambient, self._sun = _light(rng, width, height)
        self._sky = _sky(rng, frames)
        self._grain = rng.standard_normal((height + NOISE_SLACK, width + NOISE_SLACK, 3), np.float32)
        self._stocked: dict[bytes, Floats] = {}

    def frame(self, index: int, blur_sigma: float = 0.0, *, lamps: float = 1.0, sun: float | None = None) -> Frame:
        """Render one frame, BGR, shape (height, width, 3).

        Args:
            index: running index from 0; `index // frames` is the pass.
            blur_sigma: defocus of the lens, pixels at 640 wide; it acts on the light, before the sensor adds noise.
            lamps: which share of the lamps' light there is.
            sun: how much sun comes in, about 0 to 1; the pass has its own where None.
        """
        turn, position = divmod(index, self.frames)
        noise = np.random.default_rng((self.seed, 1, turn, position))
        scene = self._stock(position).copy()
        for walker in self._walkers:
            if (sprite := walker.sprite(position)) is not None:
                sprite.lay_over(scene)
        scene = cv2.multiply(scene, self._daylight(turn, position, noise, lamps, sun))
        if blur_sigma > 0:
            scene = _defocused(scene, blur_sigma)
        return self._exposed(np.asarray(scene, np.float32), noise)

    def boxes(self, index: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return what a perfect detector would: boxes, shape (n, 4), xyxy in pixels, and classes, shape (n,).

        A thing counts when at least 40 % of it is visible; the box of a partly hidden thing is its whole box,
        clipped to the picture.
        """
        position = index % self.frames
        people = [sprite for walker in self._walkers if (sprite := walker.sprite(position)) is not None]
        there = ~self._away[:, position]
        things = [sprite for sprite, present in zip(self._products, there, strict=True) if present] + people
        kinds = np.concatenate([self._kinds[there], np.full(len(people), PERSON, np.int64)])
        covered = np.zeros((self.height, self.width), bool)
        shown = np.zeros(len(things), bool)
        # From the nearest thing to the farthest; products never hide one another.
        for place in reversed(range(len(things))):
            shown[place] = things[place].visible_share(covered) >= VISIBLE_SHARE_MIN
            if kinds[place] == PERSON:
                things[place].cover(covered)
        corners = [things[place].box(self.width, self.height) for place in np.flatnonzero(shown)]
        return np.array(corners, np.float32).reshape(-1, 4), kinds[shown]

    def _stock(self, position: int) -> Floats:
        """The background with the products that are there; a pass knows only a dozen different stocks."""
        away = self._away[:, position]
        key = away.tobytes()
        if key not in self._stocked:
            scene = self._background.copy()
            for sprite, missing in zip(self._products, away, strict=True):
                if not missing:
                    sprite.lay_over(scene)
            self._stocked[key] = scene
        return self._stocked[key]

    def _daylight(self, turn: int, position: int, noise: Random, lamps: float, sun: float | None) -> Floats:
        between_passes = SUN_PASS_SWING * (2.0 * ((turn * GOLDEN + self.seed * GOLDEN**2) % 1.0) - 1.0)
        usual = float(self._sky[position]) + between_passes
        flickering = (usual if sun is None else sun) + FLICKER * float(noise.standard_normal())
        lit = self._ambient if lamps == 1.0 else self._ambient * np.float32(lamps)
        return np.asarray(cv2.scaleAdd(self._sun, flickering, lit), np.float32)

    def _exposed(self, light: Floats, noise: Random) -> Frame:
        """What the sensor makes of light: read noise and shot noise, rounded and clipped to a byte."""
        down, right = noise.integers(NOISE_SLACK, size=2)
        grain = self._grain[down : down + self.height, right : right + self.width]
        sd = cv2.sqrt(cv2.addWeighted(light, 0.03, light, 0.0, 1.2))
        return np.asarray(cv2.add(light, cv2.multiply(sd, grain), dtype=cv2.CV_8U), np.uint8)


# --------------------------------------------------------------------------------------------------- camera and sprites


@dataclass(frozen=True, slots=True)
class _Sprite:
    """Something ready to be laid over a picture; `colour` is already multiplied by its opacity."""

    left: int
    top: int
    colour: Floats  # (h, w, 3)
    through: Floats  # (h, w, 3), the share of what lies behind that is still seen
    solid: NDArray[np.bool_]  # (h, w), without its shadow

    def at(self, left: int) -> "_Sprite":
        return _Sprite(left, self.top, self.colour, self.through, self.solid)

    def _window(self, height: int, width: int) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the picture, then of the sprite, where the two meet."""
        rows, columns = self.solid.shape
        top, bottom = max(self.top, 0), min(self.top + rows, height)
        left, right = max(self.left, 0), min(self.left + columns, width)
        bottom, right = max(bottom, top), max(right, left)
        own = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return slice(top, bottom), slice(left, right), *own

    def lay_over(self, scene: Floats) -> None:
        rows, columns, own_rows, own_columns = self._window(scene.shape[0], scene.shape[1])
        if rows.start < rows.stop and columns.start < columns.stop:
            part = scene[rows, columns]
            cv2.multiply(part, self.through[own_rows, own_columns], dst=part)
            cv2.add(part, self.colour[own_rows, own_columns], dst=part)

    def visible_share(self, covered: NDArray[np.bool_]) -> float:
        rows, columns, own_rows, own_columns = self._window(*covered.shape)
        seen = self.solid[own_rows, own_columns] & ~covered[rows, columns]
        return float(np.count_nonzero(seen)) / max(int(np.count_nonzero(self.solid)), 1)

    def cover(self, covered: NDArray[np.bool_]) -> None:
        rows, columns, own_rows, own_columns = self._window(*covered.shape)
        covered[rows, columns] |= self.solid[own_rows, own_columns]

    def middle_x(self) -> float:
        return self.left + self.solid.shape[1] / 2

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        rows, columns = np.flatnonzero(self.solid.any(1)), np.flatnonzero(self.solid.any(0))
        left, right = self.left + columns[0], self.left + columns[-1] + 1
        top, bottom = self.top + rows[0], self.top + rows[-1] + 1
        return float(max(left, 0)), float(max(top, 0)), float(min(right, width)), float(min(bottom, height))


@dataclass(frozen=True, slots=True)
class _Picture:
    """A drawn thing before any camera sees it; colours are multiplied by opacity."""

    paint: Floats  # (h, w, 4) BGR 0..255 and opacity 0..1
    solid: Floats  # (h, w) opacity without the shadow
    detail: int  # pixels a unit

    def mirrored(self) -> "_Picture":
        return _Picture(
            np.ascontiguousarray(self.paint[:, ::-1]), np.ascontiguousarray(self.solid[:, ::-1]), self.detail
        )


@dataclass(frozen=True, slots=True)
class _Camera:
    """A homography from units of the picture plane to pixels."""

    matrix: NDArray[np.float64]
    width: int
    height: int

    def photograph(self, room: Floats) -> Floats:
        """See the whole room, shape (ROOM_H * DETAIL, ROOM_W * DETAIL, 3)."""
        return self._seen(room, DETAIL, -MARGIN, -MARGIN, (0, 0, self.width, self.height))

    def see(self, picture: _Picture, left: float, top: float) -> _Sprite:
        """See one thing whose canvas begins at (left, top) units."""
        rows, columns = picture.solid.shape
        right, bottom = left + columns / picture.detail, top + rows / picture.detail
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        spots = cv2.perspectiveTransform(corners[None], self.matrix)[0]
        x0, y0 = (int(v) for v in np.floor(spots.min(0)))
        x1, y1 = (int(v) for v in np.ceil(spots.max(0)))
        seen = self._seen(np.dstack([picture.paint, picture.solid]), picture.detail, left, top, (x0, y0, x1, y1))
        through = np.repeat(1.0 - seen[..., 3:4], 3, axis=2)
        return _Sprite(x0, y0, np.ascontiguousarray(seen[..., :3]), through, seen[..., 4] > 0.5)

    def _seen(self, canvas: Floats, detail: int, left: float, top: float, view: tuple[int, int, int, int]) -> Floats:
        """Warp into the pixel rectangle `view`, through a picture twice as fine, so that edges are smooth."""
        x0, y0, x1, y1 = view
        to_units = np.array([[1 / detail, 0, left], [0, 1 / detail, top], [0, 0, 1]])
        to_view = np.array([[2, 0, -2 * x0], [0, 2, -2 * y0], [0, 0, 1]])
        matrix = to_view @ self.matrix @ to_units
        size = (2 * (x1 - x0), 2 * (y1 - y0))
        bands = [canvas[..., :3], canvas[..., 3:]] if canvas.shape[2] > 3 else [canvas]
        fine = [cv2.warpPerspective(np.ascontiguousarray(band), matrix, size, flags=cv2.INTER_LINEAR) for band in bands]
        small = [cv2.resize(band, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA) for band in fine]
        return np.dstack(small).astype(np.float32)


def _camera(rng: Random, width: int, height: int) -> _Camera:
    """A camera slightly off the axis: zoom, roll, a little yaw and pitch."""
    middle = np.array([[1, 0, -PICTURE_W / 2], [0, 1, -PICTURE_H / 2], [0, 0, 1]])
    roll, zoom = np.radians(rng.uniform(-1.6, 1.6)), rng.uniform(0.95, 1.03)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [rng.uniform(-4.5e-4, 4.5e-4), rng.uniform(-1e-4, 3e-4), 1]])
    scale = zoom * max(width / PICTURE_W, height / PICTURE_H)
    place = np.array(
        [[scale, 0, width / 2 + rng.uniform(-5, 5)], [0, scale, height / 2 + rng.uniform(-3, 3)], [0, 0, 1]]
    )
    return _Camera(place @ tilt @ turn @ middle, width, height)


# ------------------------------------------------------------------------------------------------------------- products


@dataclass(frozen=True, slots=True)
class _Product:
    kind: int
    left: float
    top: float
    picture: _Picture
    loose: bool  # nothing stands on it, so that it can be taken


def _hex(*codes: str) -> tuple[Colour, ...]:
    """Colours written as RRGGBB, as BGR; even white paper swallows a part of the light."""
    share = WHITE / 255
    return tuple((share * int(c[4:], 16), share * int(c[2:4], 16), share * int(c[:2], 16)) for c in codes)


# (ground, accent, ink) of a brand.
_BRANDS = [
    _hex("d9322e", "fff3dc", "7c1214"), _hex("f2b632", "d6402b", "5a2a0c"), _hex("1f6fb5", "f4f7fb", "0c2c54"),
    _hex("2f8f5b", "f3e9c6", "0f3d28"), _hex("f4efe4", "c8502f", "3b2a22"), _hex("6b3f8e", "f5c64c", "2a1440"),
    _hex("ef7f2d", "fff2d8", "6b2c0a"), _hex("18a3a8", "fdf6e3", "083f45"), _hex("e9568b", "fff0f3", "6d1438"),
    _hex("2b2f3a", "e8b23c", "f2ecdf"), _hex("9bc53d", "ffffff", "2d4a10"), _hex("c9d7e3", "1d5c9c", "1b2e45"),
]  # fmt: skip
_LIQUIDS = _hex("c9e4ee", "3a1a10", "e8892b", "6f9a3d", "a3262f", "f1ece0", "d8b04a", "8fc7d8")
_NAMES = ("OLA", "MIRU", "KAVO", "TERN", "LUMI", "BRIO", "NOVA", "SALT", "PIKA", "ZEST", "FJORD", "MOA", "RUBY", "ECHO")


def _jittered(rng: Random, colour: Colour, by: float = 12.0) -> Colour:
    blue, green, red = np.clip(np.array(colour) + rng.uniform(-by, by, 3), 0, 250)
    return float(blue), float(green), float(red)


def _arrangement(rng: Random) -> tuple[list[_Product], list[tuple[float, float]]]:
    """Fill the shelves from left to right with facings of one brand each; also say where price tags belong."""
    products: list[_Product] = []
    tags: list[tuple[float, float]] = []
    for base in SHELF_BASES:
        x, kinds = -14.0 + rng.uniform(0, 8), [int(k) for k in rng.permutation(3)]
        while x < PICTURE_W + 10:
            kind = kinds.pop() if kinds else int(rng.choice(3, p=[0.36, 0.3, 0.34]))
            facing, width = _facing(rng, kind, x, base)
            products += facing
            if x + width / 2 < PICTURE_W + MARGIN / 2:
                tags.append((x + width / 2, base))
            x += width + rng.uniform(4, 8)
    return products, tags


def _facing(rng: Random, kind: int, x: float, base: float) -> tuple[list[_Product], float]:
    """Two to four of the same product side by side; cans stand on one another where they fit."""
    width, height = _size(rng, kind)
    brand = _BRANDS[rng.integers(len(_BRANDS))]
    brand = tuple(_jittered(rng, colour) for colour in brand)
    count = int(rng.integers(1, 3)) if kind == BOX else int(rng.integers(2, 4))
    bare = _DRAW[kind](rng, width, height, brand, x + width * count / 2)
    layers = 2 if kind == CAN and rng.random() < 0.6 else 1
    gap = rng.uniform(1.2, 2.6)
    facing: list[_Product] = []
    for layer in range(layers):
        for place in range(count):
            stray = rng.uniform(-0.5, 0.5, 2)
            left, foot = x + place * (width + gap) + stray[0], base - layer * (height - 0.5) + min(stray[1], 0.2)
            facing.append(_standing(rng, kind, bare, left, foot, layer == layers - 1))
    return facing, count * width + (count - 1) * gap


def _size(rng: Random, kind: int) -> tuple[float, float]:
    if kind == BOTTLE:
        return rng.uniform(16, 20), rng.uniform(43, 51)
    if kind == CAN:
        return rng.uniform(16, 18.5), rng.uniform(23, 25.5)
    return rng.uniform(24, 38), rng.uniform(33, 48)


def _standing(rng: Random, kind: int, bare: Floats, left: float, foot: float, loose: bool) -> _Product:
    """Add the shadow that the thing throws on the back panel and the board, and a light of its own."""
    pad = 4 * DETAIL
    solid = cv2.copyMakeBorder(bare[..., 3], pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    paint = cv2.copyMakeBorder(bare, pad, pad, pad, pad, cv2.BORDER_CONSTANT) * np.float32(rng.uniform(0.93, 1.04))
    thrown = _hazy(np.roll(solid, (DETAIL, 2 * DETAIL), (0, 1)), 1.3 * DETAIL)
    thrown[-pad + 2 * DETAIL :] = 0
    paint[..., 3] = solid + (1 - solid) * 0.55 * thrown
    rows = bare.shape[0]
    picture = _Picture(paint.astype(np.float32), np.asarray(solid, np.float32), DETAIL)
    return _Product(kind, left - 4, foot - rows / DETAIL - 4, picture, loose)


def _bottle(rng: Random, width: float, height: float, brand: Sequence[Colour], _middle: float) -> Floats:
    rows, half = round(height * DETAIL), width * DETAIL / 2
    neck, shoulder = rng.uniform(0.34, 0.42), rng.uniform(0.36, 0.46)
    along = np.linspace(0, 1, rows)
    cap = along < 0.09
    shape = np.interp(along, [0, 0.2, shoulder, 0.965, 1], [neck, neck, 1, 1, 0.9])
    shape = np.where((along > 0.2) & (along < shoulder), _eased(shape, neck, 1.0), shape)
    shape = np.where(cap, neck + 0.07, shape)
    art = np.empty((rows, round(3.2 * half), 3), np.float32)
    liquid = np.array(_jittered(rng, _LIQUIDS[rng.integers(len(_LIQUIDS))]))
    art[:] = liquid
    art[along < 0.2] = 0.5 * liquid + 105
    art[cap] = brand[0]
    art[(along > 0.085) & (along < 0.1)] = 40
    art[cap, ::5] *= 0.7
    first, last = int(rng.uniform(0.47, 0.54) * rows), int(rng.uniform(0.84, 0.92) * rows)
    art[first:last] = _artwork(rng, art.shape[1], last - first, brand)
    gloss = np.where((along * rows > first) & (along * rows < last), 0.3, 0.75)
    return _turned(shape * half, art, gloss)


def _can(rng: Random, width: float, height: float, brand: Sequence[Colour], _middle: float) -> Floats:
    rows, half = round(height * DETAIL), width * DETAIL / 2
    along = np.linspace(0, 1, rows)
    shape = np.interp(along, [0, 0.045, 0.12, 0.93, 1], [0.84, 0.84, 1, 1, 0.86])
    art = np.full((rows, round(3.2 * half), 3), 205, np.float32)
    first, last = int(0.115 * rows), int(0.93 * rows)
    art[first:last] = _artwork(rng, art.shape[1], last - first, brand)
    art[(along > 0.045) & (along < 0.07)] = 120
    can = _turned(shape * half, art, np.full(rows, 0.55))
    return _lidded(can, 0.84 * half)


def _lidded(can: Floats, half: float) -> Floats:
    """Show the top of the can, which a camera at eye height sees as a flat ellipse with a ring pull."""
    rise = round(half * 0.16)
    can = np.asarray(cv2.copyMakeBorder(can, rise, 0, 0, 0, cv2.BORDER_CONSTANT), np.float32)
    middle = (can.shape[1] // 2, rise + 1)
    cv2.ellipse(can, middle, (round(half), rise), 0, 0, 360, (225, 225, 222, 1), -1, cv2.LINE_AA)
    cv2.ellipse(can, middle, (round(half * 0.82), round(rise * 0.72)), 0, 0, 360, (150, 150, 148, 1), -1, cv2.LINE_AA)
    cv2.ellipse(can, middle, (round(half * 0.3), round(rise * 0.4)), 0, 0, 360, (90, 90, 92, 1), -1, cv2.LINE_AA)
    return can


def _box(rng: Random, width: float, height: float, brand: Sequence[Colour], middle: float) -> Floats:
    rows, columns = round(height * DETAIL), round(width * DETAIL)
    face = _artwork(rng, columns, rows, brand)
    face *= np.linspace(1.04, 0.86, rows, dtype=np.float32)[:, None, None]
    face[:3], face[:, :3] = face[:3] * 0.6 + 100, face[:, :3] * 0.8 + 50
    # A box to the right of the camera shows its left side, and the farther the more.
    off_axis = (middle - PICTURE_W / 2) / (PICTURE_W / 2)
    depth = max(round(abs(off_axis) * 4.5 * DETAIL), 1)
    side = np.full((rows, depth, 3), np.array(brand[0]) * (0.62 if off_axis < 0 else 0.5), np.float32)
    side[:: 5 * DETAIL] *= 0.8
    whole = np.concatenate([side, face] if off_axis > 0 else [face, side], axis=1)
    return np.dstack([np.clip(whole, 0, WHITE), np.ones(whole.shape[:2], np.float32)]).astype(np.float32)


_DRAW: list[Callable[[Random, float, float, Sequence[Colour], float], Floats]] = [_bottle, _box, _can]


def _eased(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    part = np.clip((values - low) / (high - low), 0, 1)
    return low + (high - low) * np.sin(part * np.pi / 2) ** 1.2


def _turned(half: NDArray[np.float64], art: Floats, gloss: NDArray[np.float64]) -> Floats:
    """A body of revolution lit from the upper left: half-widths in pixels, shape (rows,), and what is printed on it."""
    columns = 2 * int(np.ceil(half.max())) + 2
    across = (np.arange(columns) - (columns - 1) / 2)[None, :] / np.maximum(half, 1.0)[:, None]
    angle = np.arcsin(np.clip(across, -1, 1))
    map_x = ((0.5 + angle / np.pi) * (art.shape[1] - 1)).astype(np.float32)
    map_y = np.broadcast_to(np.arange(len(half), dtype=np.float32)[:, None], map_x.shape)
    printed = cv2.remap(art, map_x, np.ascontiguousarray(map_y), cv2.INTER_LINEAR)
    shade = 0.36 + 0.7 * np.maximum(np.cos(angle + 0.5), 0)
    glint = np.exp(-(((across + 0.52) / 0.11) ** 2)) + 0.4 * np.exp(-(((across - 0.78) / 0.08) ** 2))
    colour = printed * shade[..., None] + (gloss[:, None] * 130 * glint)[..., None]
    inside = (np.abs(across) <= 1).astype(np.float32)
    return np.dstack([np.clip(colour, 0, WHITE) * inside[..., None], inside]).astype(np.float32)


def _artwork(rng: Random, width: int, height: int, brand: Sequence[Colour]) -> Floats:
    """What is printed on a package, shape (height, width, 3): ground, a motif, a name, stripes, fine print."""
    ground, accent, ink = brand[:3]
    art = np.full((height, width, 3), ground, np.uint8)
    _MOTIFS[rng.integers(len(_MOTIFS))](rng, art, accent, ink)
    name = _NAMES[rng.integers(len(_NAMES))]
    plate = int(rng.uniform(0.18, 0.3) * height), int(rng.uniform(0.5, 0.6) * height)
    if rng.random() < 0.6:
        cv2.rectangle(art, (0, plate[0]), (width, plate[1]), accent, -1)
        cv2.line(art, (0, plate[1]), (width, plate[1]), ink, 2)
    _write(art, name, width / 2, sum(plate) / 2, 0.52 * width, 0.75 * (plate[1] - plate[0]), ink)
    _fine_print(rng, art, int(0.7 * height), int(0.9 * height), ink)
    return art.astype(np.float32)


def _write(art: Frame | Floats, text: str, x: float, y: float, width: float, height: float, ink: Colour) -> None:
    """Write centred at (x, y), as large as the given width and height allow."""
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)
    scale = min(width / wide, height / high)
    wide, high = round(wide * scale), round(high * scale)
    pad = 2 + high // 3
    # OpenCV writes on bytes only: write a stencil, then lay the ink through it.
    stencil = np.zeros((high + 2 * pad, wide + 2 * pad), np.uint8)
    thick = max(round(3.4 * scale), 1)
    cv2.putText(stencil, text, (pad, pad + high), cv2.FONT_HERSHEY_DUPLEX, scale, 255, thick, cv2.LINE_AA)
    top, left = max(round(y - high / 2) - pad, 0), max(round(x - wide / 2) - pad, 0)
    under = art[top : top + stencil.shape[0], left : left + stencil.shape[1]]
    cover = stencil[: under.shape[0], : under.shape[1], None].astype(np.float32) / 255
    under[:] = (under * (1 - cover) + np.array(ink, np.float32) * cover).astype(art.dtype)


def _fine_print(rng: Random, art: Frame, top: int, bottom: int, ink: Colour) -> None:
    width = art.shape[1]
    for y in range(top, bottom, 5):
        x = int(0.24 * width)
        while x < 0.76 * width:
            run = int(rng.integers(4, 14))
            cv2.line(art, (x, y), (x + run, y), ink, 2)
            x += run + 5


def _bands(rng: Random, art: Frame, accent: Colour, ink: Colour) -> None:
    height, width = art.shape[:2]
    for y in range(0, height, max(int(rng.uniform(0.09, 0.2) * height), 6)):
        cv2.rectangle(art, (0, y), (width, y + int(rng.integers(2, 7))), accent if rng.random() < 0.7 else ink, -1)


def _diagonals(rng: Random, art: Frame, accent: Colour, _ink: Colour) -> None:
    height, width = art.shape[:2]
    step, slope = int(rng.integers(14, 26)), float(rng.choice([-1.0, 1.0]))
    for x in range(-height, width + height, step):
        cv2.line(art, (x, 0), (int(x + slope * height), height), accent, max(step // 3, 2), cv2.LINE_AA)


def _disc(rng: Random, art: Frame, accent: Colour, ink: Colour) -> None:
    height, width = art.shape[:2]
    middle, radius = (width // 2, int(rng.uniform(0.4, 0.6) * height)), int(0.27 * min(width, height * 1.2))
    cv2.circle(art, middle, radius, accent, -1, cv2.LINE_AA)
    cv2.circle(art, middle, int(radius * 0.8), ink, 2, cv2.LINE_AA)
    for spoke in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        tip = (int(middle[0] + 1.5 * radius * np.cos(spoke)), int(middle[1] + 1.5 * radius * np.sin(spoke)))
        cv2.line(art, middle, tip, accent, 3, cv2.LINE_AA)


def _halves(rng: Random, art: Frame, accent: Colour, ink: Colour) -> None:
    height, width = art.shape[:2]
    wave = (0.5 + 0.12 * np.sin(np.linspace(0, 2 * np.pi, width) + rng.uniform(0, 6))) * height
    below = np.arange(height)[:, None] > wave[None, :]
    art[below] = accent
    art[np.abs(np.arange(height)[:, None] - wave[None, :]) < 4] = ink


_MOTIFS: list[Callable[[Random, Frame, Colour, Colour], None]] = [_bands, _diagonals, _disc, _halves]

# ----------------------------------------------------------------------------------------------------------------- room


@dataclass(frozen=True, slots=True)
class _Theme:
    wall: Colour
    panel: Colour
    board: Colour
    rail: Colour
    sign: Colour
    word: str


def _theme(word: str, *codes: str) -> _Theme:
    wall, panel, board, rail, sign = _hex(*codes)
    return _Theme(wall, panel, board, rail, sign, word)


_THEMES = [
    _theme("FRESH & COLD", "27484a", "c9c4b8", "b98d5c", "e9e4da", "1d3638"),
    _theme("CORNER SHOP", "5b4636", "d4cbb9", "8b6b48", "d8d2c4", "7a2f25"),
    _theme("PANTRY", "3a4a63", "b9c0c6", "dfe3e6", "f0f1f2", "24344f"),
    _theme("GOOD THINGS", "6d7f69", "dcd7c8", "c7a377", "efeadf", "3f5240"),
]


def _room(rng: Random, theme: _Theme, tags: Sequence[tuple[float, float]]) -> Floats:
    """Wall, sign, rack with boards and price tags, floor; shape (ROOM_H * DETAIL, ROOM_W * DETAIL, 3)."""
    room = np.full((ROOM_H * DETAIL, ROOM_W * DETAIL, 3), theme.wall, np.float32)
    _paint_sign(room, theme)
    for base in SHELF_BASES:
        _paint_bay(room, theme, base)
    _paint_floor(rng, room)
    for base in SHELF_BASES:
        _paint_board(room, theme, base)
    for x, base in tags:
        _paint_tag(rng, room, x, base)
    for x in (-18.0, PICTURE_W / 2, PICTURE_W + 14.0):
        _paint_upright(room, x)
    return room


def _px(value: float) -> int:
    """A coordinate of the picture plane, in pixels of the room's canvas."""
    return round((value + MARGIN) * DETAIL)


def _paint_sign(room: Floats, theme: _Theme) -> None:
    top, bottom = _px(-30), _px(27)
    room[top:bottom] = theme.sign
    room[top:bottom] *= np.linspace(1.5, 0.85, bottom - top, dtype=np.float32)[:, None, None]
    _write(room, theme.word, _px(PICTURE_W / 2), _px(15), 150 * DETAIL, 9.5 * DETAIL, theme.rail)
    for side in (-1, 1):
        for offset in (96, 102, 108):
            x = PICTURE_W / 2 + side * offset
            cv2.line(room, (_px(x), _px(10.5)), (_px(x + side * 14), _px(19.5)), theme.board, 6, cv2.LINE_AA)
    room[bottom : bottom + 2 * DETAIL] *= 0.55


def _paint_bay(room: Floats, theme: _Theme, base: float) -> None:
    """The perforated back panel of one bay, dark under the board above it."""
    top, bottom = _px(base - BAY_H + 8), _px(base)
    bay = room[top:bottom]
    bay[:] = theme.panel
    for y in range(2 * DETAIL, bay.shape[0], 5 * DETAIL):
        for x in range(0, bay.shape[1], 5 * DETAIL):
            cv2.circle(bay, (x, y), 3, tuple(0.5 * c for c in theme.panel), -1, cv2.LINE_AA)
    along = np.linspace(0, 1, bay.shape[0], dtype=np.float32)
    shade = 0.95 - 0.6 * np.exp(-along / 0.14) - 0.24 * np.exp(-(1 - along) / 0.1)
    bay *= shade[:, None, None]


def _paint_board(room: Floats, theme: _Theme, base: float) -> None:
    """The board's upper side with its grain, the lip with the rail for price tags, the shadow below."""
    top, lip, bottom = _px(base - 2.2), _px(base + 1.2), _px(base + 8)
    grain = 1.0 + 0.05 * np.sin(np.arange(room.shape[1]) * 0.021) + 0.04 * np.sin(np.arange(room.shape[1]) * 0.137)
    room[top:lip] = np.array(theme.board) * 0.9 * grain[:, None]
    room[lip:bottom] = theme.rail
    room[lip:bottom] *= np.linspace(0.98, 0.72, bottom - lip, dtype=np.float32)[:, None, None]
    room[lip : lip + 2] = np.array(theme.rail) * 1.02
    room[bottom - 3 : bottom] *= 0.5


def _paint_tag(rng: Random, room: Floats, x: float, base: float) -> None:
    offer = rng.random() < 0.25
    paper, ink = _hex("ffd84a" if offer else "fbfaf5", "b3201b" if offer else "22252b")
    left, right, top, bottom = _px(x - 8.5), _px(x + 8.5), _px(base + 1.7), _px(base + 7.6)
    cv2.rectangle(room, (left + 3, top + 3), (right + 3, bottom + 2), (60, 60, 60), -1)
    cv2.rectangle(room, (left, top), (right, bottom), paper, -1)
    price = f"{rng.integers(1, 9)}.{rng.choice(['49', '79', '99'])}"
    _write(room, price, (left + right) / 2 - 8, (top + bottom) / 2, 0.52 * (right - left), 0.66 * (bottom - top), ink)
    for bar in range(7):
        if rng.random() < 0.75:
            cv2.line(room, (right - 4 - 2 * bar, top + 4), (right - 4 - 2 * bar, bottom - 6), ink, 1)


def _paint_upright(room: Floats, x: float) -> None:
    left, right, top, bottom = _px(x - 1.6), _px(x + 1.6), _px(27), _px(FLOOR_Y)
    steel = 70 + 70 * np.sin(np.linspace(0.3, 2.6, right - left))
    shine = np.repeat(np.repeat(steel[None, :, None], bottom - top, 0), 3, 2)
    shine[::12, (right - left) // 2 - 2 : (right - left) // 2 + 2] = 25
    # Uprights stand behind the boards' rails: only the bays show them.
    for base in SHELF_BASES:
        rows = slice(_px(base - BAY_H + 8), _px(base - 2.2))
        room[rows, left:right] = (
            shine[: rows.stop - rows.start] * np.linspace(0.45, 1, rows.stop - rows.start)[:, None, None]
        )


def _paint_floor(rng: Random, room: Floats) -> None:
    plinth, top = _px(SHELF_BASES[-1] + 8), _px(FLOOR_Y)
    room[plinth:top] = 34
    floor = room[top:]
    floor[:] = _jittered(rng, (132.0, 140.0, 146.0), 8)
    floor *= np.linspace(0.55, 1.05, floor.shape[0], dtype=np.float32)[:, None, None]
    middle = room.shape[1] / 2
    for spread in range(-14, 15):
        start, end = (int(middle + spread * 110), 0), (int(middle + spread * 210), floor.shape[0])
        cv2.line(floor, start, end, (96, 102, 106), 3, cv2.LINE_AA)
    for depth in (0.12, 0.34, 0.7):
        cv2.line(
            floor, (0, int(depth * floor.shape[0])), (room.shape[1], int(depth * floor.shape[0])), (96, 102, 106), 3
        )


# --------------------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True, slots=True)
class _Walker:
    """Somebody who passes: which sprite, and where, at each frame of the pass; -1 where they are out of sight."""

    poses: list[_Sprite]
    pose: NDArray[np.int64]  # (frames,)
    x: Floats  # (frames,), pixels

    def sprite(self, position: int) -> _Sprite | None:
        pose = int(self.pose[position])
        if pose < 0:
            return None
        sprite = self.poses[pose]
        return sprite.at(round(float(self.x[position]) - sprite.solid.shape[1] / 2))


def _walker(rng: Random, camera: _Camera, turn: int, frames: int) -> _Walker:
    """One crossing of the picture, with a stop on the way to look at something and reach for it."""
    to_right = bool(rng.integers(2))
    start, length = (turn + rng.uniform(0.05, 0.3)) / WALKERS, rng.uniform(0.56, 0.72) / WALKERS
    through = (np.arange(frames) / frames - start) / length
    stop_at, stop_share = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.3)
    pace = 1 / (1 - stop_share)
    begins = stop_at / pace
    gone = np.where(through < begins, through * pace, np.maximum(stop_at, (through - stop_share) * pace))
    stands = (through >= begins) & (through < begins + stop_share)
    scale = camera.width / PICTURE_W
    reach = 48 * scale
    x = -reach + gone * (camera.width + 2 * reach)
    step = np.floor(gone * rng.uniform(44, 52)).astype(np.int64) % GAIT_POSES
    pose = np.where((through >= 0) & (through < 1), np.where(stands, GAIT_POSES, step), -1)
    x = x if to_right else camera.width - x
    return _Walker(_poses(rng, camera, to_right), pose, x.astype(np.float32))


def _poses(rng: Random, camera: _Camera, to_right: bool) -> list[_Sprite]:
    tall, top = rng.uniform(176, 200), rng.uniform(50, 66)
    clothes = _Clothes(
        coat=_jittered(rng, _COATS[rng.integers(len(_COATS))]),
        trousers=_jittered(rng, _TROUSERS[rng.integers(len(_TROUSERS))]),
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        long_hair=bool(rng.random() < 0.45),
        bag=bool(rng.random() < 0.6),
        stripes=bool(rng.random() < 0.4),
    )
    sprites: list[_Sprite] = []
    for pose in range(GAIT_POSES + 1):
        swing = None if pose == GAIT_POSES else float(np.sin(2 * np.pi * pose / GAIT_POSES))
        picture = _body(clothes, tall, swing)
        picture = picture if to_right else picture.mirrored()
        sprites.append(camera.see(picture, (PICTURE_W - picture.solid.shape[1] / picture.detail) / 2, top - 6))
    return sprites


@dataclass(frozen=True, slots=True)
class _Clothes:
    coat: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    long_hair: bool
    bag: bool
    stripes: bool


_COATS = _hex("b8453a", "2f5d8a", "d9a441", "4f6f52", "7a5c8e", "c7c2b6", "353a45", "b5654a")
_TROUSERS = _hex("2b3444", "4a4238", "5b6570", "23262b", "6a5a48")
_SKINS = _hex("f0c7a5", "d9a27c", "a9714b", "7a4c32", "e6b592")
_HAIRS = _hex("3a2a20", "5f3f26", "8a5a2e", "34343a", "b9914f", "777575")


def _body(clothes: _Clothes, tall: float, swing: float | None) -> _Picture:
    """Somebody seen from behind at three quarters, walking right; `swing` from -1 to 1, None stands and reaches out."""
    units = tall / 100.0  # the figure below is drawn 100 high
    paint = np.zeros((round((tall + 12) * BODY_DETAIL), round(64 * units * BODY_DETAIL), 4), np.float32)
    origin = paint.shape[1] / 2, 6.0 * BODY_DETAIL
    draw = _Figure(paint, origin, units * BODY_DETAIL)
    stride = 0.22 if swing is None else swing
    bob = abs(stride) * 0.8
    dark = tuple(0.72 * c for c in clothes.coat)
    draw.limb(
        [(-1, 52), (-1 - 8 * stride, 74), (-1 - 13 * stride - 2, 96)], 9.5, tuple(0.75 * c for c in clothes.trousers)
    )
    draw.oval((-13 * stride - 1, 98), (5.0, 2.4), (38, 40, 46))
    draw.limb([(0, 30 + bob), (-4 * stride, 42), (5 - 9 * stride, 52)], 6.5, dark)
    draw.limb([(1, 52), (1 + 8 * stride, 74), (1 + 13 * stride - 1, 97)], 10, clothes.trousers)
    draw.oval((13 * stride + 2, 99), (5.2, 2.4), (38, 40, 46))
    draw.blob(
        [(-8, 20), (6, 19), (10, 26), (9, 44), (10, 60), (-10, 60), (-9, 42), (-11, 27)],
        bob,
        clothes.coat,
        clothes.stripes,
    )
    if clothes.bag:
        draw.blob([(-14, 25), (-7, 23), (-6, 45), (-13, 46)], bob, tuple(0.5 * c for c in clothes.trousers), False)
    draw.limb([(0, 12 + bob), (0, 19 + bob)], 7, clothes.skin)
    draw.oval((1.5, 8.5 + bob), (6.2, 8.0), clothes.skin)
    draw.oval((-0.4, 6.8 + bob), (6.6, 7.0), clothes.hair)
    if clothes.long_hair:
        draw.limb([(-3, 7 + bob), (-4.5, 20 + bob)], 8, clothes.hair)
    hand = (
        [(1, 26), (11, 31), (21, 21)] if swing is None else [(0, 26 + bob), (4 * stride - 1, 40), (10 * stride + 3, 51)]
    )
    draw.limb(hand, 7.5, clothes.coat)
    draw.oval(hand[-1], (3.0, 3.2), clothes.skin)
    return draw.picture()


@dataclass(frozen=True, slots=True)
class _Figure:
    """A canvas on which soft, rounded parts are laid one over another."""

    paint: Floats
    origin: tuple[float, float]
    scale: float

    def _spot(self, x: float, y: float) -> tuple[int, int]:
        return round(self.origin[0] + x * self.scale), round(self.origin[1] + y * self.scale)

    def limb(self, joints: Sequence[tuple[float, float]], thick: float, colour: Sequence[float]) -> None:
        mask = np.zeros(self.paint.shape[:2], np.uint8)
        path = np.array([self._spot(x, y) for x, y in joints], np.int32)
        cv2.polylines(mask, [path], False, 255, round(thick * self.scale), cv2.LINE_AA)
        self._lay(mask, colour)

    def oval(self, middle: tuple[float, float], radii: tuple[float, float], colour: Sequence[float]) -> None:
        mask = np.zeros(self.paint.shape[:2], np.uint8)
        axes = round(radii[0] * self.scale), round(radii[1] * self.scale)
        cv2.ellipse(mask, self._spot(*middle), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        self._lay(mask, colour)

    def blob(self, outline: Sequence[tuple[float, float]], drop: float, colour: Sequence[float], stripes: bool) -> None:
        mask = np.zeros(self.paint.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.array([self._spot(x, y + drop) for x, y in outline], np.int32)], 255, cv2.LINE_AA)
        rounded = np.clip((_hazy(mask, 1.6 * self.scale) - 127) * 8 + 127, 0, 255)
        self._lay(rounded.astype(np.uint8), colour, stripes)

    def _lay(self, mask: Frame, colour: Sequence[float], stripes: bool = False) -> None:
        """Round the part off by the slope of its blurred outline, light from the upper left."""
        left, top, width, height = cv2.boundingRect(mask)
        part, paint = mask[top : top + height, left : left + width], self.paint[top : top + height, left : left + width]
        cover = part.astype(np.float32) / 255
        # Not `_hazy`: the slope of what was enlarged fourfold would show its squares as a weave.
        soft = cv2.GaussianBlur(cover, (0, 0), 1.8 * self.scale, borderType=cv2.BORDER_CONSTANT)
        slope_x = cv2.Sobel(soft, cv2.CV_32F, 1, 0) * self.scale
        slope_y = cv2.Sobel(soft, cv2.CV_32F, 0, 1) * self.scale
        shade = np.clip(0.82 + 0.22 * slope_x + 0.12 * slope_y, 0.35, 1.2)
        if stripes:
            shade[(np.arange(height) // round(2.2 * self.scale)) % 3 == 0] *= 0.66
        tint = np.clip(shade[..., None] * np.array(colour, np.float32), 0, 245)
        paint[..., :3] = paint[..., :3] * (1 - cover[..., None]) + tint * cover[..., None]
        paint[..., 3] = np.maximum(paint[..., 3], cover)

    def picture(self) -> _Picture:
        """Add the soft shadow that the figure throws on the shelf behind it."""
        solid = self.paint[..., 3].copy()
        thrown = np.roll(_hazy(solid, 5.0 * BODY_DETAIL), 5 * BODY_DETAIL, axis=1)
        self.paint[..., 3] = solid + (1 - solid) * 0.4 * thrown
        return _Picture(self.paint, solid, BODY_DETAIL)


# --------------------------------------------------------------------------------------------------- stock, light, lens


def _absences(
    rng: Random, products: Sequence[_Product], seen: Sequence[_Sprite], walkers: Sequence[_Walker], frames: int
) -> NDArray[np.bool_]:
    """Which product is away at which frame, shape (products, frames): taken, and put back, as somebody passes it."""
    away = np.zeros((len(products), frames), bool)
    loose = [place for place, product in enumerate(products) if product.loose]
    for place in rng.choice(loose, min(TAKEN, len(loose)), replace=False):
        taker, returner = sorted(int(w) for w in rng.choice(len(walkers), 2, replace=False))
        x = seen[place].middle_x()
        away[place, _passes(walkers[taker], x) : _passes(walkers[returner], x)] = True
    return away


def _passes(walker: _Walker, x: float) -> int:
    """The frame at which the walker is nearest to x."""
    return int(np.argmin(np.where(walker.pose >= 0, np.abs(walker.x - x), np.inf)))


def _light(rng: Random, width: int, height: int) -> tuple[Floats, Floats]:
    """Lamps, and the sun through a shop window as a slanted patch; both of shape (height, width, 3), as factors."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    down, across = down / height, across / width
    vignette = 1.0 - 0.5 * ((across - 0.5) ** 2 + 0.8 * (down - 0.45) ** 2)
    lamps = vignette * np.float32(rng.uniform(0.88, 0.92))
    slant, start = rng.uniform(0.35, 0.7) * rng.choice([-1, 1]), rng.uniform(0.2, 0.8)
    along = across + slant * (down - 0.5) - start
    panes = _soft(along, -0.27, -0.03) + _soft(along, 0.0, 0.24)
    sun = (0.10 + 0.24 * panes) * vignette
    warm, cool = np.array([0.9, 0.99, 1.06], np.float32), np.array([1.0, 1.0, 1.0], np.float32)
    return np.ascontiguousarray(lamps[..., None] * cool), np.ascontiguousarray(sun[..., None] * warm)


def _soft(values: Floats, low: float, high: float) -> Floats:
    """One between low and high, zero outside, with a soft edge."""
    edge = np.float32(0.025)
    return (1 / (1 + np.exp(-(values - low) / edge)) * (1 / (1 + np.exp((values - high) / edge)))).astype(np.float32)


def _sky(rng: Random, frames: int) -> Floats:
    """How much sun comes in at each frame of a pass, shape (frames,), about 0.6; slow, and the same at both ends."""
    time = 2 * np.pi * np.arange(frames) / frames
    first, second = rng.uniform(0, 2 * np.pi, 2)
    return (0.6 + SUN_SWING * (0.7 * np.sin(time + first) + 0.3 * np.sin(2 * time + second))).astype(np.float32)


def _hazy(mask: NDArray[Any] | MatLike, sigma: float) -> Floats:
    """A wide blur of a mask, cheap because it is made at a quarter of the size; outside the mask is empty."""
    rows, columns = mask.shape
    padded = cv2.copyMakeBorder(np.asarray(mask, np.float32), 8, 8, 8, 8, cv2.BORDER_CONSTANT)
    small = cv2.resize(padded, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / 4, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(
        cv2.resize(soft, (columns + 16, rows + 16), interpolation=cv2.INTER_LINEAR)[8:-8, 8:-8], np.float32
    )


def _defocused(picture: MatLike, sigma: float) -> MatLike:
    return cv2.GaussianBlur(picture, (0, 0), sigma * picture.shape[1] / BLUR_REFERENCE_W)
