"""What an assay would do, before it runs: false alarms over the past, and the smallest shift it finds soon."""

from collections.abc import Sequence
from urllib.parse import quote

import pandas as pd

from driftline.charts.detectability import detectability_chart, stream_text
from driftline.errors import InvalidInputError
from driftline.sdk.chart import Chart
from driftline.sdk.health import stream_name
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
        return "\n".join([*(f"{_name(one)}: {stream_text(one, self.within)}" for one in self.streams), *self.notes])

    def _repr_html_(self) -> str:
        rows = [(one.device or "all", one.field, stream_text(one, self.within)) for one in self.streams]
        return table(("Device", "Field", f"Within {self.within} windows"), rows) + table(
            (), ([note] for note in self.notes)
        )


def ask(connection: Connection, workspace: str, spec: api.AssaySpec, within: int) -> Preview:
    """Ask the hub what an assay would do.

    Raises:
        InvalidInputError: `within` is no number of windows, or the hub refuses what the assay asks.
    """
    path = f"/workspaces/{quote(workspace)}/assays/preview"
    request = api.NewPreview(spec=spec, within=_windows(within))
    return Preview(connection.post(path, request, api.Preview, timeout_s=_TIMEOUT_S))


def ask_saved(connection: Connection, assay: str, within: int) -> Preview:
    """Ask the hub what a standing assay did, and would find, against its newest baselines; see `ask`."""
    path = f"/assays/{quote(assay, safe='')}/preview"
    return Preview(connection.get(path, api.Preview, timeout_s=_TIMEOUT_S, within=_windows(within)))


def _windows(within: object) -> int:
    if isinstance(within, bool) or not isinstance(within, int) or within < 1:
        raise InvalidInputError(f"within is {within!r}; give a number of windows, 20 is usual")
    return within


def _name(stream: api.StreamPreview) -> str:
    return stream_name(stream.device, stream.field)


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
