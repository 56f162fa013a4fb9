"""Whether the hub lives, and whether it can work: for systemd, a container's probes, a load balancer.

`/healthz` says that this process answers. `/readyz` says whether it can do its work; where it cannot, it answers 503
with what keeps it from that, so that nothing is sent here meanwhile. Neither says anything about the fleet.
"""

import shutil

from sqlalchemy import text

from driftline.errors import DriftlineError, TemporaryError
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import PUBLIC
from driftline.wire import api

routes = Routes(prefix="")

# A minute of ten thousand devices is about 4 MB; the database's log may grow to several times that before it is folded.
DISK_BYTES_MIN = 64 * 1024 * 1024


class Health(api.Struct):
    """How the hub is; `parts` are what was looked at and found well."""

    status: str
    parts: list[str]


@routes.get("/healthz", policy=PUBLIC)
def healthz(_call: Call[None]) -> Health:
    """Say that the process answers."""
    return Health(status="ok", parts=[])


@routes.get("/readyz", policy=PUBLIC, raises=(TemporaryError,))
def readyz(call: Call[None]) -> Health:
    """Say whether the hub can work.

    Raises:
        TemporaryError: it cannot; the message says what keeps it from that.
    """
    found = troubles(call.hub)
    wrong = [f"{part}: {trouble}" for part, trouble in found.items() if trouble is not None]
    if wrong:
        raise TemporaryError(f"not ready: {'; '.join(wrong)}")
    return Health(status="ready", parts=list(found))


def troubles(hub: Hub) -> dict[str, str | None]:
    """Return what is wrong with each part; None where it is well."""
    found: dict[str, str | None] = {"database": _database(hub), "disk": _disk(hub)}
    return found | {name: None if runs() else "it ended; see the hub's log" for name, runs in hub.threads.items()}


def _database(hub: Hub) -> str | None:
    try:
        with hub.database.reading() as connection:
            connection.execute(text("SELECT 1"))
    except DriftlineError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  whatever keeps it from answering is what was asked
        return f"it does not answer ({type(error).__name__})"
    return None


def _disk(hub: Hub) -> str | None:
    free = shutil.disk_usage(hub.home).free
    return None if free >= DISK_BYTES_MIN else f"{free // 1024**2} MB are free, {DISK_BYTES_MIN // 1024**2} are needed"
