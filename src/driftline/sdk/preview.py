"""What an assay would do, before it runs: false alarms over the past, and the smallest shift it finds soon."""

from collections.abc import Sequence
from urllib.parse import quote

import pandas as pd

from driftline.charts.detectability import detectability_chart
from driftline.clock import iso
from driftline.errors import InvalidInputError
from driftline.sdk.chart import Chart
from driftline.sdk.health import calibrated_sentences, stream_name
from driftline.sdk.html import table
from driftline.sdk.http import Connection
from driftline.wire import api

COLUMNS = (
    "device", "field", "past_alarms", "past_windows", "smallest_shift", "shift", "found", "median_windows",
    "evidence", "windows", "effective", "alarm_at", "refused",
)  # fmt: skip
# Months on many devices, and simulations of each, are a long answer, not a failure.
_TIMEOUT_S = 600.0


class Preview:
    """An assay's foresight, one stream (device and field) at a time; `.preview` is the message as the hub sent it."""

    def __init__(self, preview: api.Preview) -> None:
        self.preview = preview

    @property
    def streams(self) -> Sequence[api.StreamPreview]:
        """What was found, by device and field."""
        return self.preview.streams

    @property
    def within(self) -> int:
        """Within how many windows a shift had to be found."""
        return self.preview.within

    @property
    def notes(self) -> list[str]:
        """What should be known beside it, in sentences."""
        return list(self.preview.notes)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a row a stream and simulated shift, in the baseline's standard deviations.

        `found` is the share of simulated streams that alarm within `within` windows, `median_windows` how many it
        takes, `smallest_shift` the least that at least 80 % find; `past_alarms` is a number of `past_windows`. A stream
        without a promise has one row, which says in `refused` why.
        """
        rows = [row for stream in self.streams for row in _rows(stream)]
        return pd.DataFrame(rows, columns=pd.Index(COLUMNS))

    def chart(self) -> Chart:
        """Draw how large a shift must be to be found in time."""
        return Chart(detectability_chart(self.preview))

    def __repr__(self) -> str:
        return "\n".join([*(f"{_name(one)}: {_told(one, self.within)}" for one in self.streams), *self.notes])

    def _repr_html_(self) -> str:
        rows = [(one.device or "all", one.field, _told(one, self.within)) for one in self.streams]
        return table(("Device", "Field", f"Within {self.within} windows"), rows) + table(
            (), ([note] for note in self.notes)
        )


def ask(connection: Connection, workspace: str, spec: api.AssaySpec, within: int) -> Preview:
    """Ask the hub what an assay would do.

    Raises:
        InvalidInputError: `within` is no number of windows, or the hub refuses what the assay asks.
    """
    if isinstance(within, bool) or not isinstance(within, int) or within < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  notebooks are not type-checked
        raise InvalidInputError(f"within is {within!r}; give a number of windows, 20 is usual")
    path = f"/workspaces/{quote(workspace)}/assays/preview"
    request = api.NewPreview(spec=spec, within=within)
    return Preview(connection.post(path, request, api.Preview, timeout_s=_TIMEOUT_S))


def _name(stream: api.StreamPreview) -> str:
    return stream_name(stream.device, stream.field)


def _told(stream: api.StreamPreview, within: int) -> str:
    if stream.calibrated.refused is not None:
        return calibrated_sentences(stream.calibrated)[0]
    return f"{_past(stream)}; {_future(stream, within)}"


def _past(stream: api.StreamPreview) -> str:
    count = len(stream.past_alarms)
    alarms = f"{count} alarm{'' if count == 1 else 's'}"
    first = "" if not count else f" (the first at {iso(stream.past_alarms[0])})"
    return f"{alarms} over {stream.past_windows} past windows{first}"


def _future(stream: api.StreamPreview, within: int) -> str:
    found = next((one for one in stream.detectable if one.shift == stream.smallest_shift), None)
    if found is not None:
        return f"finds a shift of {found.shift:g} sd within {within} windows in {_of_ten(found.found)}"
    if not stream.detectable:
        return "no shift was simulated"
    largest = max(stream.detectable, key=lambda one: one.shift)
    return f"finds even a shift of {largest.shift:g} sd within {within} windows in only {_of_ten(largest.found)}"


def _of_ten(share: float) -> str:
    """Say a share as people count.

    >>> _of_ten(0.91), _of_ten(0.999), _of_ten(0.96)
    ('9 of 10 runs', 'every run', '19 of 20 runs')
    """
    if share >= 0.995:
        return "every run"
    of = 10 if share < 0.95 else 20 if share < 0.98 else 100
    return f"{int(share * of + 1e-9)} of {of} runs"


def _rows(stream: api.StreamPreview) -> list[dict[str, object]]:
    facts: dict[str, object] = {
        "device": stream.device,
        "field": stream.field,
        "past_alarms": len(stream.past_alarms),
        "past_windows": stream.past_windows,
        "smallest_shift": stream.smallest_shift,
        "evidence": stream.calibrated.kind,
        "windows": stream.calibrated.windows,
        "effective": stream.calibrated.effective,
        "alarm_at": stream.alarm_at,
        "refused": stream.calibrated.refused,
    }
    found = [
        {"shift": one.shift, "found": one.found, "median_windows": one.median_windows} for one in stream.detectable
    ]
    return [facts | one for one in found] or [facts]
