"""Which time zone and opening hours a device has in an assay: the assay's own, or those of the site where it is.

What is said of a site, and where a device is, holds from then on. A window has the hours that held when it ended,
however late its data comes; of windows that had ended when their assay was saved, those that held then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection

from driftline.assay.hours import OpeningHours
from driftline.assay.promise import opening_hours
from driftline.errors import ConflictError
from driftline.hub.core import Hub
from driftline.hub.store import sites
from driftline.wire import api

Open = Callable[[int, int], bool]


def taken(own: api.Calendar, site: api.Calendar | None) -> api.Calendar:
    """Return the calendar that a device has in an assay, of the assay's own and that of the device's site.

    >>> berlin = api.Calendar(time_zone="Europe/Berlin", opening_hours="Mon-Sat 07:00-20:00")
    >>> taken(api.Calendar(), berlin) == berlin
    True
    >>> taken(api.Calendar(opening_hours="daily 00:00-24:00"), berlin)
    Calendar(time_zone='Europe/Berlin', opening_hours='daily 00:00-24:00')
    >>> taken(api.Calendar(time_zone="UTC"), berlin)
    Calendar(time_zone='UTC', opening_hours=None)
    """
    if own.time_zone is not None or site is None:
        return own
    # The hours of a site are of its clock: no other zone may read them.
    return api.Calendar(time_zone=site.time_zone, opening_hours=own.opening_hours or site.opening_hours)


@dataclass(frozen=True)
class Calendars:
    """The calendars that the devices of an assay have; windows that ended before `since_ns` have those of then."""

    own: api.Calendar
    workspace: str
    sites: sites.Sites
    since_ns: int

    def of(self, device: str, at_ns: int = 0) -> api.Calendar:
        """Return the calendar of a device at a time, or at `since_ns`."""
        at_ns = max(at_ns, self.since_ns)
        said = self.sites.hours_of(self.workspace, self.sites.site(device, at_ns), at_ns)
        site = None
        if said is not None:
            site = api.Calendar(time_zone=said.time_zone, opening_hours=said.opening_hours)
        return taken(self.own, site)

    def is_open(self, device: str, start_ns: int, end_ns: int) -> bool:
        """Say whether a device's site is open all the time from start to end."""
        # What is said at the very moment in which a window ends is for the next one.
        calendar = self.of(device, end_ns - 1)
        found = _hours(calendar.time_zone, calendar.opening_hours)
        return found is None or found.is_open(start_ns, end_ns) == "open"

    def open_on(self, device: str) -> Open:
        """Return what says whether the site of one device is open."""
        return lambda start_ns, end_ns: self.is_open(device, start_ns, end_ns)


def now(hub: Hub, workspace: str, own: api.Calendar) -> Calendars:
    """Return the calendars that devices have now, for whatever windows: for an assay that is not saved yet."""
    with hub.database.reading() as connection:
        return Calendars(own, workspace, sites.every(connection), hub.now_ns())


def check_still(connection: Connection, hub: Hub, present: Calendars) -> None:
    """Refuse to keep what was calibrated in hours that are others by now.

    Raises:
        ConflictError: somebody said something else of a site, or a device moved.
    """
    fresh = Calendars(present.own, present.workspace, sites.every(connection), hub.now_ns())
    if any(fresh.of(device) != present.of(device) for device in fresh.sites.placed):
        raise ConflictError("the hours of a device's site were changed meanwhile; try again")


@lru_cache(maxsize=1024)
def _hours(time_zone: str | None, text: str | None) -> OpeningHours | None:
    return opening_hours(api.Calendar(time_zone=time_zone, opening_hours=text))
