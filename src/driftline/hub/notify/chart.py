"""Which windows the chart of a notification shows: the last ones of its devices, of the field that each alarmed of."""

from sqlalchemy import Connection

from driftline.clock import NS_PER_S
from driftline.errors import EntityNotFoundError
from driftline.hub.notify import message, picture
from driftline.hub.store import assays as store
from driftline.hub.store import incidents
from driftline.hub.store.assays import Strip
from driftline.wire import api

WINDOWS = 40


def of(connection: Connection, told: api.Notification) -> bytes | None:
    """Return the chart of a drift as a PNG; None where no assay speaks of it."""
    one = told.incident
    if one.assay_id is None:
        return None
    try:
        kept = store.one(connection, one.assay_id)
    except EntityNotFoundError:
        return None
    spec = kept.assay.spec
    interval_s = spec.windows.interval_s or spec.windows.width_s
    fields = {part.device: part.field or one.field or "" for part in incidents.parts(connection, one.id)}
    places = [(kept.assay.id, device) for device in one.devices[: picture.STREAMS_MAX]]
    ends = {place.device: place.end_ns for place in store.progress(connection, places)}
    asked = [
        Strip(
            kept.assay.id,
            device,
            fields.get(device, one.field or ""),
            (ends[device] or 0) - WINDOWS * interval_s * NS_PER_S,
        )
        for device in one.devices[: picture.STREAMS_MAX]
        if device in ends
    ]
    marks = store.latest_marks(connection, asked)
    streams = {f"{strip.device} {strip.field}": marks.get(strip[:3], []) for strip in asked}
    return picture.png(message.subject(told), streams, promised=isinstance(spec.alarm, api.Promise))
