"""Every page, and its data, of a hub that has something to show, on both stores."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from driftline.hub.command import listen
from driftline.hub.scorer import Round
from driftline.hub.server import Listener, application, rules_of
from driftline.hub.store import incidents as store
from tests.hub.shop import Shop

STORES = ("sqlite", "postgres")


def test_every_page_is_there(tmp_path: Path, database_url: str | None) -> None:
    shop: Any = Shop.open(tmp_path, database_url)
    for name in ("camera-1", "camera-2"):
        shop.device(name)
    shop.at(30)
    shop.days(range(30), ("camera-1", "camera-2"))
    assay = shop.save("sharpness", "out.sharpness", "out.avg_confidence")
    shop.days(range(30, 45), ("camera-1", "camera-2"), blurred="camera-2")
    shop.at(50)
    Round(shop.hub).run()
    with shop.hub.database.reading() as connection:
        (incident,) = store.listed(connection, newest=5)
    named = {"assay": assay.id, "name": "camera-2", "incident": incident.id}
    rules = [one.path for one in rules_of(application(shop.hub)) if one.method == "GET"]
    pages = [one.format(**named) for one in rules if not one.startswith(("/api/", "/static/", "/{path"))]
    with listen("127.0.0.1", 0) as bound:
        listener = Listener(shop.hub, bound)
        listener.start()
        found: dict[str, Any] = {}
        with httpx2.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", trust_env=False) as http:
            for path in pages:
                found[path] = http.get(quote(path))
        listener.stop()
    shop.hub.database.close()
    # Without accounts nobody is set up.
    assert {path for path, reply in found.items() if reply.status_code != 200} == {"/setup"}
    assert len(found) > 20
    assert "camera-2" in found[f"/assays/{assay.id}"].text
