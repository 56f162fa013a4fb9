"""The hub's services in one place: every handler and every background thread gets the `Hub`."""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from driftline.clock import Clock
from driftline.hub.accounts.people import Accounts
from driftline.hub.courtesy import Courtesy
from driftline.hub.figures import Figures
from driftline.hub.lease import Lease
from driftline.hub.limits import Limits
from driftline.hub.store.database import Database
from driftline.hub.store.telemetry import Telemetry
from driftline.hub.together import Together
from driftline.summary.grid import Grid
from driftline.wire.device import Desired

# By version id: its pipeline's id and its definition.
Grants = Mapping[str, tuple[str, Mapping[str, Any]]]


@dataclass
class Hub:
    """What the hub is made of.

    `url` is where devices reach it, `fingerprint` its certificate's SHA-256 where they are to know it by that. `wake`
    is set after every ingest and wakes the scorer; `outbox` where a person gave the notifier something to tell;
    `checks` holds the model versions that wait for their check, None ends it. `private_targets` lets notifications go
    to addresses of private networks and of this machine.
    `changed()` says that some device's desired state may be another now; `desired` remembers each as it was worked out,
    with its revision, `granted` what it may send, each with the generation it belongs to. `grids` are those that were
    looked up, `batches` takes what devices send. `limits` is how often each caller may ask, `courtesy` lets background
    work give way to people, `threads` says of each that must go on whether it does, `figures` is what the hub counts of
    itself. `accounts` is None on a hub without logins: whoever may ask is its admin. `name` is what other hubs on the
    same database know it by.
    """

    home: Path
    clock: Clock
    database: Database
    telemetry: Telemetry
    batches: Together[Any, Any]
    url: str = ""
    fingerprint: str | None = None
    private_targets: bool = False
    outbox: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)
    checks: "queue.Queue[str | None]" = field(default_factory=queue.Queue)
    generation: int = 0
    desired: dict[str, tuple[int, Desired, str]] = field(default_factory=dict[str, tuple[int, Desired, str]])
    granted: dict[str, tuple[int, Grants]] = field(default_factory=dict[str, tuple[int, Grants]])
    grids: dict[str, Grid] = field(default_factory=dict[str, Grid])
    limits: Limits = field(default_factory=Limits)
    courtesy: Courtesy = field(default_factory=Courtesy)
    figures: Figures = field(default_factory=Figures)
    accounts: Accounts | None = None
    name: str = field(default_factory=lambda: str(uuid4()))
    threads: dict[str, Callable[[], bool]] = field(default_factory=dict[str, Callable[[], bool]])

    @property
    def speaks_tls(self) -> bool:
        """Whether other machines can reach it: only then it does."""
        return self.url.startswith("https:")

    @property
    def dashboard(self) -> str:
        """Where people see the dashboard, for links in what is sent to them."""
        return self.url

    @property
    def models(self) -> Path:
        """The folder of model files, each named by its SHA-256."""
        return self.home / "models"

    @property
    def temporary(self) -> Path:
        """The folder of uploads under way; emptied at start."""
        return self.home / "uploads"

    def changed(self) -> None:
        """Say that desired states must be worked out anew."""
        self.generation += 1

    def lease(self, work: str) -> Lease:
        """Return this hub's claim to work that one of several hubs on the database does alone."""
        return Lease(self.database, work, self.name)

    def now_ns(self) -> int:
        """Return the clock's time."""
        return self.clock.now_ns()
