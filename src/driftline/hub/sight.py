"""What one look of the scorer sees of devices and baselines: each thing is read once, whichever assay asks.

A thousand assays on one camera ask for the same windows. They are read, decoded and kept here for as long as the look
lasts: up to where a device has told is read first and its windows after it, so that whatever it has told is there.
"""

from collections import OrderedDict
from collections.abc import Sequence

from driftline.hub.assays import footings_of
from driftline.hub.core import Hub
from driftline.hub.observations import Span, Target
from driftline.hub.promises import Footings
from driftline.hub.store.telemetry import Heard

# Spans kept at once. Assays are looked at one after the other, each on all its devices: with fewer places than devices
# × fields nothing would be found again.
SPANS_MAX = 4096
# A span of more windows is read for one assay and kept for none: rows of days are gigabytes.
SHARED_SPAN_NS_MAX = 3600 * 1_000_000_000
# Assays of which it is read together what their windows are compared with: one by one that was a sixth of a look.
FOOTINGS_AT_ONCE = 50


class Sight:
    """One look; made anew for the next one."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._tellers: dict[str, list[str]] = {}
        self._heard: dict[tuple[str, str], Heard] = {}
        self._first: dict[tuple[str, str], int | None] = {}
        self._spans: OrderedDict[tuple[str, str, str, str, int, int], Span] = OrderedDict()
        self._assays: Sequence[str] = ()
        self._footings: dict[str, Footings] = {}

    def await_assays(self, assays: Sequence[str]) -> None:
        """Hear which assays will be looked at, in which order."""
        self._assays, self._footings = assays, {}

    def footings(self, assay: str) -> Footings:
        """Return what an assay's windows are compared with: as it is now where that is asked for again."""
        if assay not in self._footings:
            at = self._assays.index(assay)
            coming = [one for one in self._assays[at : at + FOOTINGS_AT_ONCE] if one not in self._footings]
            with self.hub.database.reading() as connection:
                self._footings |= footings_of(connection, coming)
        return self._footings.pop(assay)

    def tellers(self, pipeline: str) -> list[str]:
        """Return the devices of a pipeline."""
        if pipeline not in self._tellers:
            self._tellers[pipeline] = self.hub.telemetry.devices(pipeline)
        return self._tellers[pipeline]

    def heard(self, pipeline: str, device: str) -> Heard:
        """Return what a device has told of a pipeline."""
        key = (pipeline, device)
        if key not in self._heard:
            self._heard[key] = self.hub.telemetry.heard(pipeline, device)
        return self._heard[key]

    def first_inference_ns(self, pipeline: str, device: str) -> int | None:
        """Return when a device made its first inference."""
        key = (pipeline, device)
        if key not in self._first:
            self._first[key] = self.hub.telemetry.first_inference_ns(pipeline, device)
        return self._first[key]

    def span(self, target: Target, device: str, start_ns: int, end_ns: int) -> Span:
        """Return a stretch of time of one field on one device."""
        # Assays that were saved under different versions may know a field by different types.
        key = (target.pipeline, device, target.field, target.field_type, start_ns, end_ns)
        if key in self._spans:
            self._spans.move_to_end(key)
            return self._spans[key]
        span = Span(self.hub, target, device, start_ns, end_ns, self.heard(target.pipeline, device))
        if end_ns - start_ns <= SHARED_SPAN_NS_MAX:
            self._spans[key] = span
            if len(self._spans) > SPANS_MAX:
                self._spans.popitem(last=False)
        return span
