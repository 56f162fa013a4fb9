"""How an object detector wants its picture, and what it calls what it finds.

The defaults are YOLOX's convention: the frame is shrunk to fit the top left of the input, the rest is grey 114, colours
stay BGR and 0–255. Another detector says what differs, in Python (`driftline.Detector`) or as a JSON file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

from driftline.errors import InvalidInputError

Colour = Literal["BGR", "RGB"]
Layout = Literal["NCHW", "NHWC"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Preprocessing of a frame and the names of a detector's outputs.

    `input` is the graph's input for the picture (default: its only one with four dimensions) and `size` its (width,
    height) in pixels (default: from the graph). With `letterbox` the frame keeps its proportions, at the top left,
    filled up with `pad`; without, it is stretched. A pixel becomes `(pixel × scale − mean) / std`, with `mean` and
    `std` in the order of `colour`. `score_threshold` goes into the graph where it has an input of that name, else
    detections below it are left out afterwards. The boxes a graph returns are x1, y1, x2, y2 in input pixels; they
    are given back in pixels of the frame.
    """

    input: str | None = None
    size: tuple[int, int] | None = None
    letterbox: bool = True
    pad: int = 114
    colour: Colour = "BGR"
    scale: float = 1.0
    mean: Triple | None = None
    std: Triple | None = None
    layout: Layout = "NCHW"
    score_threshold: float | None = None
    boxes: str = "boxes"
    classes: str = "classes"
    confidences: str = "confidences"
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what no picture can be prepared with; lists are taken for tuples."""
        for name in ("size", "mean", "std", "class_names"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.size is not None and not (len(self.size) == 2 and all(1 <= side <= 16384 for side in self.size)):
            raise InvalidInputError(f"detector: size is (width, height) in pixels, not {self.size!r}")
        if not 0 <= self.pad <= 255:
            raise InvalidInputError(f"detector: pad is a grey of 0 to 255, not {self.pad}")
        if self.colour not in {"BGR", "RGB"}:
            raise InvalidInputError(f"detector: colour is BGR or RGB, not {self.colour!r}")
        if self.layout not in {"NCHW", "NHWC"}:
            raise InvalidInputError(f"detector: layout is NCHW or NHWC, not {self.layout!r}")
        if self.std is not None and 0.0 in self.std:
            raise InvalidInputError("detector: std divides and cannot be 0")
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise InvalidInputError(f"detector: score_threshold is 0 to 1, not {self.score_threshold}")
        if len({self.boxes, self.classes, self.confidences}) < 3:
            raise InvalidInputError("detector: boxes, classes and confidences are three different outputs")

    @property
    def document(self) -> dict[str, Any]:
        """The configuration as it travels and rests in JSON; `parse` reads it."""
        document: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            document[one.name] = list(value) if isinstance(value, tuple) else value
        return document

    @classmethod
    def parse(cls, document: object) -> "DetectorConfig":
        """Read a configuration; what it does not name keeps its default.

        >>> DetectorConfig.parse({"colour": "RGB", "scale": 0.5}).colour
        'RGB'

        Raises:
            InvalidInputError: not an object, an unknown key, or a value that cannot be used; the message names it.
        """
        if not isinstance(document, Mapping):
            raise InvalidInputError(f"a detector's configuration is an object, not {document!r:.100}")
        given = cast("Mapping[str, object]", document)
        known = [one.name for one in fields(cls)]
        for key in given:
            if key not in known:
                raise InvalidInputError(f"detector: there is no {key!r}; it knows {', '.join(known)}")
        facts: dict[str, Any] = {key: _READERS[key](key, value) for key, value in given.items()}
        return cls(**facts)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"detector: {key} is a word, not {value!r}")
    return value


def _text_or_none(key: str, value: object) -> str | None:
    return None if value is None else _text(key, value)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"detector: {key} is true or false, not {value!r}")
    return value


def _number(key: str, value: object) -> float:
    # Written so that NaN and infinity fail too: JSON readers let them through.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise InvalidInputError(f"detector: {key} is a number, not {value!r}")
    return float(value)


def _number_or_none(key: str, value: object) -> float | None:
    return None if value is None else _number(key, value)


def _integer(key: str, value: object) -> int:
    number = _number(key, value)
    if number != int(number):
        raise InvalidInputError(f"detector: {key} is a whole number, not {value!r}")
    return int(number)


def _size(key: str, value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(cast("list[object]", value)) != 2:
        raise InvalidInputError(f"detector: {key} is [width, height] in pixels, not {value!r}")
    width, height = cast("list[object]", value)
    return _integer(key, width), _integer(key, height)


def _triple(key: str, value: object) -> Triple | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(cast("list[object]", value)) != 3:
        raise InvalidInputError(f"detector: {key} is three numbers, one a colour, not {value!r}")
    first, second, third = cast("list[object]", value)
    return _number(key, first), _number(key, second), _number(key, third)


def _names(key: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"detector: {key} is a list of names, not {value!r:.100}")
    return tuple(_text(key, name) for name in cast("list[object]", value))


_READERS = {
    "input": _text_or_none,
    "size": _size,
    "letterbox": _flag,
    "pad": _integer,
    "colour": _text,
    "scale": _number,
    "mean": _triple,
    "std": _triple,
    "layout": _text,
    "score_threshold": _number_or_none,
    "boxes": _text,
    "classes": _text,
    "confidences": _text,
    "class_names": _names,
}
