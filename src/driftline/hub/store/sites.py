"""When sites are open, as each workspace says, and where devices were: rows are only added, each holds from then on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Integer, String, Table, func, insert, select

from driftline.hub.store.database import metadata
from driftline.hub.store.fleet import devices
from driftline.wire import api

T = TypeVar("T")

# Numbered, for a clock may be set back: what was said last is what holds. Neither zone nor hours: nothing is said.
SITE_HOURS = Table(
    "site_hours",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("workspace", ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("site", String, nullable=False),
    Column("from_ns", BigInteger, nullable=False),
    Column("time_zone", String),
    Column("opening_hours", String),
    Column("actor", String, nullable=False),
)

# A device without rows was never at a site.
PLACEMENTS = Table(
    "placements",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("site", String),
    Column("from_ns", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class Sites:
    """Where devices were since when, and when the sites of workspaces were open since when, in the order it was said.

    `stamp` is another one as soon as anything is.
    """

    placed: Mapping[str, Sequence[tuple[int, str | None]]]
    hours: Mapping[tuple[str, str], Sequence[tuple[int, api.SiteHours]]]
    stamp: tuple[int, int] = (0, 0)

    def site(self, device: str, at_ns: int) -> str | None:
        """Return where a device was at a time."""
        return _last(self.placed.get(device, ()), at_ns)

    def hours_of(self, workspace: str, site: str | None, at_ns: int) -> api.SiteHours | None:
        """Return what a workspace said of a site that held at a time; None where it said nothing."""
        if site is None:
            return None
        found = _last(self.hours.get((workspace, site), ()), at_ns)
        return None if found is None or found.time_zone is None else found

    def after_move(self, device: str, site: str | None, at_ns: int) -> "Sites":
        """Return what will be known when a device is at another site from a time on."""
        own = [*self.placed.get(device, ()), (at_ns, site)]
        return Sites({**self.placed, device: own}, self.hours, self.stamp)

    def after_change(self, workspace: str, said: api.SiteHours) -> "Sites":
        """Return what will be known when a workspace has said this of a site."""
        key = (workspace, said.site)
        own = [*self.hours.get(key, ()), (said.from_ns, said)]
        return Sites(self.placed, {**self.hours, key: own}, self.stamp)


def _last(rows: Sequence[tuple[int, T]], at_ns: int) -> T | None:
    return next((one for from_ns, one in reversed(rows) if from_ns <= at_ns), None)


def every(connection: Connection) -> Sites:
    """Return all that was ever said."""
    placed: defaultdict[str, list[tuple[int, str | None]]] = defaultdict(list)
    moves = select(devices.c.name, PLACEMENTS.c.from_ns, PLACEMENTS.c.site).join(
        devices, devices.c.id == PLACEMENTS.c.device
    )
    for name, from_ns, site in connection.execute(moves.order_by(PLACEMENTS.c.number)):
        placed[name].append((from_ns, site))
    return Sites(dict(placed), _hours(connection), stamp(connection))


def said_now(connection: Connection, workspace: str, now_ns: int) -> list[api.SiteHours]:
    """Return what a workspace says of sites now, by name."""
    known = Sites({}, _hours(connection, workspace))
    found = [known.hours_of(workspace, site, now_ns) for _, site in sorted(known.hours)]
    return [one for one in found if one is not None]


def _hours(
    connection: Connection, workspace: str | None = None
) -> dict[tuple[str, str], list[tuple[int, api.SiteHours]]]:
    hours: defaultdict[tuple[str, str], list[tuple[int, api.SiteHours]]] = defaultdict(list)
    query = select(SITE_HOURS).order_by(SITE_HOURS.c.number)
    names = api.SiteHours.__struct_fields__
    for row in connection.execute(
        query if workspace is None else query.where(SITE_HOURS.c.workspace == workspace)
    ).mappings():
        said = api.SiteHours(**{name: row[name] for name in names})
        hours[row["workspace"], row["site"]].append((said.from_ns, said))
    return dict(hours)


def stamp(connection: Connection) -> tuple[int, int]:
    """Return what is another one as soon as anything more was said."""
    newest = [select(func.max(table.c.number)).scalar_subquery() for table in (SITE_HOURS, PLACEMENTS)]
    row = connection.execute(select(newest[0].label("said"), newest[1].label("placed"))).one()
    return row.said or 0, row.placed or 0


def say(connection: Connection, workspace: str, said: api.SiteHours) -> None:
    """Keep what a workspace says of a site."""
    facts = {name: getattr(said, name) for name in said.__struct_fields__}
    connection.execute(insert(SITE_HOURS).values(workspace=workspace, **facts))


def move(connection: Connection, device: str, site: str | None, at_ns: int) -> None:
    """Keep that a device, by its id, is at a site from a time on."""
    connection.execute(insert(PLACEMENTS).values(device=device, site=site, from_ns=at_ns))
