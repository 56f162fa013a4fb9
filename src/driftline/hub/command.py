"""`driftline up`: the hub in one process and one folder, with the device `hub` beside it.

hub.lock       held while a hub runs on this folder
hub.json       {"version": 1, "url", "fingerprint", "pid"} of the hub that runs now
hub.id         its name among hubs that share one database
hub.db         everything it knows, unless DRIFTLINE_DATABASE_URL names another database
models/        the model files; uploads/ what is on its way
tls/           its certificate, where other machines can reach it
devices/hub/   the home of the device `hub`, the hub's own machine; its log is device.log
"""

import argparse
import errno
import fcntl
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from types import FrameType
from typing import Any

from driftline.clock import VARIABLE, from_environment, iso
from driftline.errors import ConflictError, InvalidInputError, NotAllowedError, PermanentError
from driftline.hub import fleet, identity, journal, registry, service
from driftline.hub.accounts import audit, people
from driftline.hub.config import Config, effective
from driftline.hub.core import Hub
from driftline.hub.notify.notifier import Notifier
from driftline.hub.retention import Retention, Settings
from driftline.hub.scorer import Scorer
from driftline.hub.server import Listener, is_loopback, open_hub
from driftline.hub.tls import SOON_DAYS, certificate, own

# The device `hub` gets this long for its last sync.
DEVICE_STOP_S = 12.0
# A silent connection is asked after a minute whether anybody is there, and ends after four questions without an answer.
KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
RESTART_PAUSE_S, RESTART_PAUSE_S_MAX = 1.0, 30.0
# Objects made and kept, then rounds of the young, then rounds of those who stayed; as it comes 700, 10 and 10.
COLLECT_AFTER = (20_000, 20, 20)
# A thread that works (the scorer) lets others have the interpreter after this; an answer takes some twenty turns at it.
# With the 5 ms that Python comes with, the slowest of a hundred took 139 ms while 300 assays were scored, with this 89.
SWITCH_S = 0.0005


def run(options: argparse.Namespace) -> int:
    """Run the hub until SIGINT or SIGTERM; return 0.

    Raises:
        ConflictError: a hub runs on this home already, or the port is in use.
        NotAllowedError: the home cannot be written.
        InvalidInputError: a host or port to listen on that this machine does not have.
    """
    found = effective(vars(options))
    config = found.config
    if options.install or options.print:
        return service.install(options, config)
    found.to_environment(os.environ)
    journal.begin(config.log_format)
    home = make_home(Path(config.home))
    with ExitStack() as stack:
        stack.enter_context(locked(home))
        # Where it cannot start for the first time, it leaves nothing behind.
        stack.callback(_leave_as_found, home)
        listening = stack.enter_context(listen(config.host, config.port))
        # The database holds the devices' keys: what is made from here on is for its owner alone.
        stack.callback(os.umask, os.umask(0o077))
        stopped = stack.enter_context(_stopped_by_signals())
        _serve(home, Address.of(listening, home, config), listening, stopped, config)
    return 0


@dataclass(frozen=True)
class Address:
    """Where a hub answers: `local_url` on its own machine, `url` for devices; `tls` where others can reach it.

    `fingerprint` is the certificate's, `pinned` the same where devices are to know it by that.
    """

    local_url: str
    url: str
    fingerprint: str | None = None
    tls: tuple[Path, Path] | None = None
    pinned: str | None = None

    @classmethod
    def of(cls, listening: socket.socket, home: Path, config: Config) -> "Address":
        """Work it out from the socket; a host that is not loopback means TLS.

        Raises:
            InvalidInputError: a certificate where nobody is spoken TLS to, or one that is for other names.
        """
        bound, port = listening.getsockname()[:2]
        given = own(config.certificate, config.key) if config.certificate or config.key else None
        if is_loopback(bound):
            if given is not None:
                raise InvalidInputError(
                    "a certificate is for a hub that other machines reach, and this one listens on loopback alone; "
                    "give --host 0.0.0.0 (or another address), or leave the certificate out"
                )
            url = f"http://{_bracketed(bound)}:{port}"
            return cls(url, url)
        everywhere = bound in {"0.0.0.0", "::"}  # noqa: S104  what a person asked for
        local = "127.0.0.1" if everywhere else bound
        if given is None:
            host = config.name or (socket.gethostname() if everywhere else config.host)
            certificate_file, key_file, fingerprint = certificate(home / "tls", host)
            shown, pinned = config.name or (_own_address() if everywhere else bound), fingerprint
        else:
            certificate_file, key_file, fingerprint = given.certificate_file, given.key_file, given.fingerprint
            shown = config.name or next((name for name in given.names if "*" not in name), bound)
            pinned = None if config.trust == "authority" else fingerprint
            if given.days_left < SOON_DAYS:
                journal.tell(f"the certificate in {certificate_file} expires in {given.days_left:.0f} days; renew it")
        return cls(
            f"https://{_bracketed(local)}:{port}",
            f"https://{_bracketed(shown)}:{port}",
            fingerprint,
            (certificate_file, key_file),
            pinned,
        )


def _serve(
    home: Path,
    address: Address,
    listening: socket.socket,
    stopped: threading.Event,
    config: Config,
) -> None:
    keeping = Settings.of(os.environ)
    hub = open_hub(
        home,
        from_environment(),
        address.url,
        address.pinned,
        database_url=config.database_url,
        private_targets=config.private_targets,
    )
    if config.auth:
        hub.accounts = people.Accounts()
    fleet.check_interval()
    _check_clock(hub)
    manager = service.Manager()
    local = LocalDevice(hub, address.local_url, address.fingerprint)
    keeper = Retention(hub, keeping)
    listener, checker, scorer = Listener(hub, listening, address.tls), registry.Checker(hub), Scorer(hub)
    notifier = Notifier(hub)
    with ExitStack() as stack:
        stack.callback(hub.database.close)
        stack.callback((home / "hub.json").unlink, missing_ok=True)
        listener.start()
        stack.callback(listener.stop)
        checker.start()
        stack.callback(checker.stop)
        scorer.start()
        stack.callback(scorer.stop)
        notifier.start()
        stack.callback(notifier.stop)
        keeper.start()
        stack.callback(keeper.stop)
        hub.threads["scorer"] = lambda: scorer.running
        # The device stops first, while the hub still answers its last sync.
        local.start()
        stack.callback(local.stop)
        _settle()
        _announce(hub, address)
        _set_up(hub, address)
        manager.tell("READY=1")
        stack.callback(manager.tell, "STOPPING=1")
        while not stopped.wait(1.0):
            if not listener.running:
                raise PermanentError("the hub stopped answering; its log above says why")


def _settle() -> None:
    """Let threads take short turns, and the collector of garbage look seldom, and never again at what is there now.

    A batch makes and drops tens of thousands of objects, none of them in a ring; looking through all that a hub is made
    of each time took a quarter of what ingest costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_S)


def _check_clock(hub: Hub) -> None:
    """Refuse a made-up time that lies before what is stored; a machine's own clock may have been corrected."""
    newest_ns = max((device.heard_ns or 0 for device in fleet.list_devices(hub)), default=0)
    if hub.now_ns() < newest_ns:
        said = f"{hub.home} holds data up to {iso(newest_ns)}, and it is only {iso(hub.now_ns())} by "
        if hub.clock.banner:
            hub.database.close()
            raise ConflictError(f"{said}{VARIABLE}; time does not go back, name another folder with --home")
        journal.tell(f"{said}this machine's clock; see whether that is right")


def _announce(hub: Hub, address: Address) -> None:
    document = {"version": 1, "url": address.local_url, "fingerprint": address.fingerprint, "pid": os.getpid()}
    replace_file(hub.home / "hub.json", document)
    journal.announce(f"driftline hub at {address.local_url}")
    journal.announce(f"dashboard at {address.local_url}/  (state in {hub.home}, Ctrl-C stops it)")
    if address.fingerprint is not None:
        journal.announce(f"devices reach it at {address.url}; the certificate's SHA-256 is {address.fingerprint}")
        login = f"driftline login {address.local_url} --fingerprint {address.fingerprint}"
        journal.announce(f"programs on this machine: {login}")
    if hub.clock.banner:
        journal.announce(hub.clock.banner)


def _set_up(hub: Hub, address: Address) -> None:
    """Let the first admin be made: asked for in a terminal, else with a link that works once."""
    if hub.accounts is None:
        return
    with hub.database.reading() as connection:
        if not people.is_empty(connection):
            return
    if sys.stdin is not None and sys.stdin.isatty():
        _ask_for_admin(hub)
        return
    link = f"{address.local_url}/setup?token={people.open_setup(hub.accounts)}"
    print(f"nobody can log in yet; make the first admin within an hour at {link}", flush=True)


def _ask_for_admin(hub: Hub) -> None:
    while True:
        try:
            name = people.check_name(input("name of the first admin: "))
            made = people.hash_password(getpass("password (at least 12 characters): "))
            with hub.database.writing() as connection:
                row = people.add(connection, name, made, hub.now_ns(), is_admin=True)
                audit.set_up(connection, hub, row, "the hub's terminal")
        except InvalidInputError as error:
            print(f"driftline: {error}", file=sys.stderr, flush=True)
        else:
            print(f"{name} may log in at the dashboard's address", flush=True)
            return


@contextmanager
def _stopped_by_signals() -> Generator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set instead of ending the process."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ── the folder and the socket ────────────────────────────────────────────────────────────────────────────────────


def make_home(path: Path) -> Path:
    """Make the hub's folder, for its owner alone, and return it as an absolute path.

    Raises:
        NotAllowedError: it cannot be made or written.
    """
    home = path.expanduser().absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotAllowedError(f"{home} cannot be made ({error.strerror}); name another folder with --home") from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise NotAllowedError(f"{home} is not writable by this user; name another with --home, or correct its owner")
    return home


def _leave_as_found(home: Path) -> None:
    if not any((home / name).exists() for name in ("hub.db", "models")):
        (home / "hub.lock").unlink(missing_ok=True)
        with suppress(OSError):  # something is in it: it stays
            home.rmdir()


@contextmanager
def locked(home: Path) -> Generator[None]:
    """Claim the folder for one hub, until the process ends, however it ends.

    Raises:
        ConflictError: a hub runs on it already; the message says where.
    """
    descriptor = _open_lock(home / "hub.lock")
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = read_file(home / "hub.json")
            raise ConflictError(
                f"a hub is already running on {home}, at {other.get('url', 'an address it has yet to say')} "
                f"(pid {other.get('pid', 'unknown')}); use that one, stop it, or start another with --home DIR"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def listen(host: str, port: int) -> Generator[socket.socket]:
    """Bind the address.

    Raises:
        ConflictError: the port is in use.
        InvalidInputError, NotAllowedError: there is no such host or port here, or it is not for this user.
    """
    if not 0 <= port <= 65_535:
        raise InvalidInputError(f"--port {port}: ports are 0 to 65535; 0 takes a free one")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise InvalidInputError(
            f"--host {host!r} is not an address of this machine ({error}); try 127.0.0.1"
        ) from error
    # Named by its protocol, or asyncio leaves Nagle's algorithm on: an answer's body then waits 40 ms until its head is
    # acknowledged.
    with socket.socket(family, kind, socket.IPPROTO_TCP) as listening:
        # A hub that was just stopped leaves its port in TIME_WAIT.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _notice_who_is_gone(listening)
        try:
            listening.bind(place)
            listening.listen(1024)
        except PermissionError as error:
            raise NotAllowedError(f"port {port} is not for this user; take one above 1023, or --port 0") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConflictError(
                    f"port {port} of {host} is in use, perhaps by another hub; stop that program, or name another port "
                    "with --port (0 takes a free one)"
                ) from error
            raise InvalidInputError(
                f"this machine cannot listen at {host} ({error.strerror}); try 127.0.0.1"
            ) from error
        yield listening


def _notice_who_is_gone(listening: socket.socket) -> None:
    """Let connections made here end when nobody is at their other end any more.

    A device whose link is cut in the middle of an upload hangs up unheard; its half of a request would stay for ever.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotAllowedError(
            f"{path.parent} is not writable by this user ({error.strerror}); name another with --home"
        ) from error


def _own_address() -> str:
    """Return the address under which this machine's network knows it, else its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: connecting a datagram socket only chooses the way out. 192.0.2.1 is nobody's address.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def replace_file(path: Path, document: dict[str, Any]) -> None:
    """Write JSON whole or not at all, readable by its owner alone."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_file(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


# ── the device `hub` ─────────────────────────────────────────────────────────────────────────────────────────────


class LocalDevice:
    """The hub's own machine as a device: the same command as anywhere, started again whenever it ends."""

    def __init__(self, hub: Hub, url: str, fingerprint: str | None) -> None:
        self.hub = hub
        self.url = url
        self.fingerprint = fingerprint
        self.home = hub.home / "devices" / fleet.LOCAL
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="device-hub", daemon=True)

    def start(self) -> None:
        """Let it join, and begin."""
        self._join()
        self._thread.start()

    def stop(self) -> None:
        """End it after its last sync."""
        self._stopping.set()
        self._thread.join(DEVICE_STOP_S + 5)

    def _join(self) -> None:
        """Write its identity: the key is made once, the hub's address may be another at every start."""
        with self.hub.database.writing() as connection:
            row = fleet.ensure_device(connection, fleet.LOCAL, self.hub.now_ns())
            key = row.key or identity.give_key(connection, row.id, self.hub.now_ns())
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = {
            "version": 1,
            "id": row.id,
            "name": row.name,
            "url": self.url,
            "fingerprint": self.fingerprint,
            "key": key.hex(),
        }
        replace_file(self.home / "device.json", facts)

    def _supervise(self) -> None:
        self._end_orphan()
        pause_s = RESTART_PAUSE_S
        while not self._stopping.is_set():
            code, lived = self._run_once()
            if self._stopping.is_set():
                return
            journal.tell(f"the device hub ended with code {code}; see {self._log}")
            pause_s = RESTART_PAUSE_S if lived else min(2 * pause_s, RESTART_PAUSE_S_MAX)
            self._stopping.wait(pause_s)

    @property
    def _log(self) -> Path:
        return self.home / "device.log"

    def _run_once(self) -> tuple[int, bool]:
        """Run it until it ends; return its exit code, and whether it lived for longer than a failing start takes."""
        command = [sys.executable, "-m", "driftline.cli", "edge", "run", "--home", str(self.home)]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*command, "--serve", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is the hub's alone, which then stops the device in order.
                start_new_session=True,
            )
        seconds = 0.0
        while process.poll() is None:
            if self._stopping.wait(0.1):
                return _end(process), True
            seconds += 0.1
        return process.returncode, seconds > 10

    def _end_orphan(self) -> None:
        """End an agent that outlived a hub that was killed: it holds the device's home, and talks to nobody."""
        lock = self.home / "agent.lock"
        pid = read_file(self.home / "state.json").get("pid")
        if not lock.exists() or not isinstance(pid, int):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _held(lock):
                return
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            for _ in range(int(DEVICE_STOP_S / 0.1)):
                if not _held(lock) or self._stopping.wait(0.1):
                    return


def _held(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        return process.wait(DEVICE_STOP_S)
    except subprocess.TimeoutExpired:
        # With its worker and whatever that started: they are one session.
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
