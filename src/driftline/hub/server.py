"""The hub as a web application, and the thread that answers for it on a socket.

Who may ask what: a hub on loopback answers programs on its own machine; a hub that others can reach speaks TLS, where
devices authenticate themselves by signature and token, and all else is still for its own machine alone. One that knows
people by their logins (`--auth`) answers them from wherever they are; see `driftline.hub.accounts`. A page of another
site, opened in a browser, may not ask anything: requests name the hub's own host, and what changes something comes from
the hub's own pages or from a program.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from uuid import uuid4

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import driftline
from driftline.clock import Clock
from driftline.errors import NotAllowedError, TemporaryError
from driftline.hub import (
    alter,
    baselines,
    deployment,
    export,
    fleet,
    identity,
    incident_routes,
    infer,
    ingest,
    journal,
    logs,
    maintenance,
    openapi,
    preview,
    registry,
    retention,
    scrape,
    sites,
)
from driftline.hub.accounts import flow as account_flow
from driftline.hub.accounts import pages as account_pages
from driftline.hub.accounts import routes as account_routes
from driftline.hub.core import Hub
from driftline.hub.health import routes as health_routes
from driftline.hub.http import JSON, Call, Routes, Rule, Ruled, envelope, failure, not_here
from driftline.hub.limits import HEAD_BYTES_MAX
from driftline.hub.notify import routes as notifications
from driftline.hub.patience import Patient
from driftline.hub.policy import MEMBER, PUBLIC
from driftline.hub.requests import Watched
from driftline.hub.store import schema
from driftline.hub.store.database import Database
from driftline.hub.store.telemetry import Telemetry
from driftline.hub.together import Together
from driftline.hub.web import pages
from driftline.wire import api, device

routes = Routes()
open_routes = Routes(prefix="")

# What devices ask; each of these says by itself who it believes.
DEVICE_PATHS = (device.SYNC_PATH, device.JOIN_PATH, device.BUNDLE_PATH)
# What a load balancer asks, from wherever it is; neither says anything about the fleet.
PROBES = frozenset({"/healthz", "/readyz"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With no-referrer a browser posts a page's own form as if it came from nowhere, and `Guard` would refuse it.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5


def open_hub(
    home: Path,
    clock: Clock,
    url: str = "",
    fingerprint: str | None = None,
    *,
    database_url: str | None = None,
    private_targets: bool = False,
) -> Hub:
    """Open the hub whose folder this is, making its folders and its database where they are not there yet.

    `database_url`: where its database is, if not in the folder. `private_targets` lets notifications go to addresses of
    private networks and of this machine.

    Raises:
        NotAllowedError: the folder cannot be written.
        PermanentError: the database is none, or of a newer driftline, or does not let this hub in.
        TemporaryError: its server does not answer.
    """
    database = Database(database_url or home / "hub.db")
    try:
        schema.prepare(database, journal.tell)
    except BaseException:
        database.close()
        raise
    telemetry = Telemetry(database)
    hub = Hub(home, clock, database, telemetry, Together(ingest.answers), url, fingerprint, private_targets)
    registry.prepare_folders(hub)
    hub.name = _name(home)
    return hub


def _name(home: Path) -> str:
    """Return the name of the hub whose folder this is; one that was killed goes on under it, and waits for no lease."""
    file = home / "hub.id"
    try:
        return file.read_text(encoding="ascii").strip() or _named(file)
    except (FileNotFoundError, ValueError):
        return _named(file)


def _named(file: Path) -> str:
    name = str(uuid4())
    file.write_text(name, encoding="ascii")
    return name


@routes.get("/version", policy=MEMBER)
def version(call: Call[None]) -> api.Version:
    """Say who answers, and what time it is for this hub."""
    clock = call.hub.clock
    return api.Version(driftline=driftline.__version__, now_ns=clock.now_ns(), banner=clock.banner)


@open_routes.get("/openapi.json", policy=PUBLIC, media=JSON)
def openapi_document(call: Call[None]) -> Response:
    """Return this document."""
    return Response(call.request.app.state.openapi(), media_type=JSON)


def application(hub: Hub) -> Starlette:
    """Return the whole application: the API under /api/v1, the dashboard at /."""
    modules = (
        ingest,  # first, because routes are looked through in this order, and nothing is asked as often
        registry,
        deployment,
        fleet,
        identity,
        infer,
        logs,
        alter,  # with those of assays, whose addresses these share
        baselines,
        preview,
        incident_routes,
        export,
        notifications,
        retention,
        scrape,
        sites,
        maintenance,
    )
    accounts = (account_routes, account_flow, account_pages)
    collected = [routes, health_routes, open_routes, *(module.routes for module in (*modules, *accounts))]
    made = Starlette(
        routes=[*(route for one in collected for route in one.starlette()), *pages.starlette()],
        middleware=[
            Middleware(Watched, hub=hub, is_quiet=_is_for_devices),
            Middleware(
                Guard,
                local_only=hub.speaks_tls and hub.accounts is None,
                any_name=hub.speaks_tls and hub.accounts is not None,
            ),
        ],
        exception_handlers={HTTPException: not_here},
    )
    made.state.hub = hub
    # It costs 20 ms, and most hubs are never asked.
    made.state.openapi = cache(lambda: msgspec.json.encode(openapi.document(rules_of(made))))
    return made


def rules_of(application: Starlette) -> list[Rule]:
    """Return the rule of every route there is, pages among them.

    Raises:
        RuntimeError: a route without a policy: nobody could say who may ask it.
    """
    found: list[Rule] = []
    for route in application.routes:
        if not isinstance(route, Ruled):
            raise RuntimeError(f"{route!r} has no policy; declare it with driftline.hub.http.Routes")  # noqa: TRY004  our own bug
        found += route.rules.values()
    return found


# ── who may ask ──────────────────────────────────────────────────────────────────────────────────────────────────


class Guard:
    """Refuses requests that a foreign page or machine makes, and sends every reply with headers browsers obey.

    What a device asks is answered without them: its link may be slow, and they are half of an answer.

    `local_only`: other machines can reach this hub, and it cannot tell people apart, so that what is not a device's is
    refused to them. `any_name`: it speaks TLS and knows people by their logins, so that it answers them wherever they
    are, under any name: a page that gave itself this hub's address has neither its certificate nor its cookies.
    """

    def __init__(self, app: ASGIApp, *, local_only: bool, any_name: bool = False) -> None:
        self.app = app
        self.local_only = local_only
        self.any_name = any_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # Answers change and may be private; what never changes says so itself.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer: ASGIApp = self.app
        if _head_bytes(scope) > HEAD_BYTES_MAX:
            answer = envelope(431, "invalid", f"the request's head is larger than {HEAD_BYTES_MAX // 1024} KB")
        elif reason := self._reason_against(scope):
            answer = failure(NotAllowedError(reason))
        await answer(scope, receive, send if _is_for_devices(scope) else send_guarded)

    def _reason_against(self, scope: Scope) -> str | None:
        if _is_for_devices(scope) or scope["path"] in PROBES:
            return None
        headers = Headers(scope=scope)
        client = scope.get("client")
        # Where it listens at an address of the machine's own, programs there come from that address, and say so.
        own = (scope.get("server") or ("",))[0]
        if self.local_only and (client is None or not (is_loopback(client[0]) or client[0] == own)):
            return (
                "from other machines only devices may ask this hub; use it on its own machine, or through an SSH "
                "tunnel to its loopback address"
            )
        host = headers.get("host", "")
        if not self.any_name and not (is_loopback(_hostname(host)) or _hostname(host) == own):
            return f"this hub answers under its loopback address, not as {host[:100]!r}; use http://127.0.0.1:PORT"
        return _foreign(scope["method"], headers, host)


def _head_bytes(scope: Scope) -> int:
    fields = sum(len(name) + len(value) for name, value in scope["headers"])
    return fields + len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")


def _is_for_devices(scope: Scope) -> bool:
    return str(scope["path"]).startswith(DEVICE_PATHS)


def _foreign(method: str, headers: Mapping[str, str], host: str) -> str | None:
    """Say why a request that changes something comes from somewhere else; None where it does not."""
    if method in {"GET", "HEAD", "OPTIONS"}:
        return None
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return f"a page of {origin[:100]!r} may not change anything here"
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return "a page of another site may not change anything here"
    return None


def _hostname(host: str) -> str:
    """Return the name or address in a Host header, without its port.

    >>> _hostname("127.0.0.1:8710"), _hostname("[::1]:8710"), _hostname("localhost")
    ('127.0.0.1', '::1', 'localhost')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Say whether a name or an address is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("shop.example")
    (True, True, False)
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


# ── listening ────────────────────────────────────────────────────────────────────────────────────────────────────


class Listener:
    """Answers for a hub on a bound socket, in a thread of its own; `tls` are its certificate's and key's files."""

    def __init__(self, hub: Hub, listening: socket.socket, tls: tuple[Path, Path] | None = None) -> None:
        config = uvicorn.Config(
            application(hub),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            log_config=None,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            timeout_keep_alive=30,
            http=Patient,
            ssl_certfile=None if tls is None else str(tls[0]),
            ssl_keyfile=None if tls is None else str(tls[1]),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="hub-http", daemon=True)

    def start(self) -> None:
        """Begin, and return once it answers.

        Raises:
            TemporaryError: it does not, within a time in which even a busy machine would.
        """
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise TemporaryError("the hub did not begin to answer; its log above says why")
            time.sleep(0.005)

    @property
    def running(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish the requests under way and end."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S + 5)
