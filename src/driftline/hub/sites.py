"""Sites: where a device is. What happens at one site is one incident; a device without one is a site of its own."""

from sqlalchemy import update

from driftline.hub import fleet, registry
from driftline.hub.core import Hub
from driftline.hub.http import Call, Routes
from driftline.hub.policy import EDITOR
from driftline.hub.store.fleet import devices
from driftline.wire import api

routes = Routes()


@routes.put("/devices/{name}/site", policy=EDITOR, body=api.Site)
def put_site(call: Call[api.Site]) -> api.Device:
    """Say where a device is; incidents that are open stay what they are."""
    return place(call.hub, call.path["name"], call.body.site, call.who.visible)


def place(hub: Hub, name: str, site: str | None, visible: fleet.Visible = None) -> api.Device:
    """Let a device be at a site; None or '' takes it from where it was.

    Raises:
        EntityNotFoundError: there is no device of this name.
        InvalidInputError: a name that cannot be one.
    """
    known = registry.check_name("site", site.strip()) if site and site.strip() else None
    with hub.database.writing() as connection:
        row = fleet.need_device(connection, name)
        connection.execute(update(devices).where(devices.c.id == row.id).values(site=known))
    return fleet.device(hub, name, visible)
