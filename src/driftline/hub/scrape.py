"""`/metrics`: what Prometheus reads, as text.

Who may ask: on a hub without accounts programs on its own machine; on one with accounts a token of an admin, of which
the scope `viewer` is enough (docs/operate.md says how Prometheus brings it).
"""

import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import get_args

from prometheus_client import generate_latest
from sqlalchemy import Connection, text
from starlette.responses import Response

import driftline
from driftline.clock import NS_PER_S
from driftline.hub import fleet
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.incidents import Kind
from driftline.hub.policy import OVERSEER
from driftline.hub.store import assays, incidents, notifications

routes = Routes(prefix="")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
STATES = (
    "healthy",
    "new",
    "silent",
    "drifting",
    "behind",
    "dropping",
    "camera lost",
    "feed frozen",
    "identity conflict",
)
OUTBOX = ("waiting", "delivered", "dead")
# Two scrapes at once would each set half of what the other shows.
_ONE_AT_A_TIME = threading.Lock()


@routes.get("/metrics", policy=OVERSEER, media="text/plain")
def metrics(call: Call[None]) -> Response:
    """Return what the hub measures of itself, in the text format of Prometheus."""
    with _ONE_AT_A_TIME:
        look(call.hub)
        return Response(generate_latest(call.hub.figures.registry), media_type=TEXT)


def look(hub: Hub) -> None:
    """Set what is not counted but looked up."""
    figures, now_ns = hub.figures, hub.now_ns()
    known = fleet.list_devices(hub)
    states = Counter(state for device in known for state in device.states)
    with hub.database.reading() as connection:
        standing = assays.every(connection)
        widths_ns = {one.assay.id: one.assay.spec.windows.width_s * NS_PER_S for one in standing if one.assay.active}
        due_ns = [start_ns + widths_ns[one] for one, start_ns in assays.unanswered(connection) if one in widths_ns]
        opened, outbox = incidents.open_by_kind(connection), notifications.counts(connection)
        waits_since_ns = notifications.oldest_due_ns(connection)
        size = _size(connection, hub.database.path)
    active = len(widths_ns)
    figures.build.labels(driftline.__version__).set(1)
    figures.scorer_lag_s.set(_overdue_s(min(due_ns, default=now_ns), now_ns))
    for name, runs in hub.threads.items():
        figures.threads.labels(name).set(runs())
    for state, count in (("active", active), ("off", len(standing) - active)):
        figures.assays.labels(state).set(count)
    for kind in get_args(Kind):
        figures.incidents.labels(kind).set(opened.get(kind, 0))
    for state in OUTBOX:
        figures.notifications.labels(state).set(outbox.get(state, 0))
    figures.oldest_waiting_s.set(_overdue_s(now_ns if waits_since_ns is None else waits_since_ns, now_ns))
    figures.devices.set(len(known))
    for state in STATES:
        figures.devices_in.labels(state).set(states[state])
    figures.database_bytes.set(size)
    figures.disk_free_bytes.set(shutil.disk_usage(hub.home).free)


def _overdue_s(due_ns: int, now_ns: int) -> float:
    return max(0, now_ns - due_ns) / NS_PER_S


def _size(connection: Connection, path: Path | None) -> int:
    """Return how many bytes a database takes; of one that is a file its log is part."""
    if path is None:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    return sum(one.stat().st_size for one in (path, path.with_name(f"{path.name}-wal")) if one.exists())
