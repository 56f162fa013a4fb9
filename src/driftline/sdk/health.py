"""What a baseline carries, in plain sentences: is it enough for the promise, why, and what to do where it is not."""

from collections.abc import Iterable
from dataclasses import dataclass

from driftline.sdk.listing import Listing
from driftline.wire import api


@dataclass(frozen=True)
class Health:
    """One device's baseline of one field; `device` None is one that serves all.

    `stands` says whether the promise does: None where there is none to keep, or before the first windows have shown how
    many values one has.
    """

    device: str | None
    field: str
    stands: bool | None
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{stream_name(self.device, self.field)}: {'; '.join(self.sentences)}"


def stream_name(device: str | None, field: str) -> str:
    """Name a device and field.

    >>> stream_name("camera-1", "out.sharpness"), stream_name(None, "out.sharpness")
    ('camera-1 out.sharpness', 'out.sharpness')
    """
    return field if device is None else f"{device} {field}"


def health_of(stats: api.BaselineStats, alarm: api.Fixed | api.Promise) -> Health:
    """Say what one baseline carries."""
    calibrated = stats.calibrated
    if isinstance(alarm, api.Fixed):
        sentences = ("a fixed threshold promises nothing and needs no more than values",)
        return Health(stats.device, stats.field, None, (*sentences, *stats.notes))
    if calibrated is None:
        sentences = ("no window has shown yet how many values one has; look again after the first",)
        return Health(stats.device, stats.field, None, (*sentences, *stats.notes))
    stands = calibrated.refused is None
    return Health(stats.device, stats.field, stands, (*calibrated_sentences(calibrated), *stats.notes))


def calibrated_sentences(calibrated: api.Calibrated) -> tuple[str, ...]:
    """Say what a promise rests on, or why it does not stand."""
    if calibrated.refused is not None:
        return (f"no promise: {calibrated.refused}",)
    worth = f"{calibrated.windows} windows of about {calibrated.n} values"
    if calibrated.effective < calibrated.windows:
        worth += f", worth {calibrated.effective:g} independent ones"
    return (worth, calibrated.why, *calibrated.health)


def listing(found: Iterable[Health]) -> Listing[Health]:
    """Return them as a list that a notebook shows as a table, a row a baseline and whom it serves."""
    every = list(found)
    renewed = {one.field for one in every if one.device is not None}
    return Listing(
        every,
        ("Device", "Field", "Promise", "Baseline"),
        lambda one: (
            one.device or ("all others" if one.field in renewed else "all"),
            one.field,
            _WORDS[one.stands],
            "; ".join(one.sentences),
        ),
    )


_WORDS = {True: "stands", False: "refused", None: "–"}
