"""A device's folder: who it is, what it should run, and what waits to be sent.

    device.json    identity: {"version": 1, "id", "name", "url", "fingerprint", "key" (hex)}, mode 600
    desired.json   what the hub last wanted
    state.json     how the agent is, for `driftline edge status` and for programs that look for its socket
    spool.db       records on their way to the hub (driftline.spool)
    bundles/       model files, each named by its SHA-256
    agent.sock     the agent's socket; agent.lock is held while an agent runs
    open/          what processes have counted and not yet handed over, where no tmpfs is (driftline.edge.open_window)
    left.*         records of a process that ended while no agent ran, for the next one (driftline.edge.link)

Files are replaced whole: written beside, synced to disk, then renamed, so that a power cut leaves the old or the new.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from driftline.errors import ConflictError, EntityNotFoundError, InvalidInputError, NotAllowedError
from driftline.wire.device import Desired, desired_from

HOME_VARIABLE = "DRIFTLINE_EDGE_HOME"
# What an agent tells its worker: the agent's process id.
AGENT_VARIABLE = "DRIFTLINE_EDGE_AGENT"
# The kernel takes 108 bytes with the closing zero on Linux, 104 on macOS.
SOCKET_PATH_BYTES_MAX = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is, and the hub it belongs to.

    `fingerprint` is the SHA-256 (hex) of the hub's certificate, None where the hub answers on loopback without TLS.
    """

    id: str
    name: str
    url: str
    fingerprint: str | None
    key: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Return what device.json holds."""
        return {
            "version": 1,
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "fingerprint": self.fingerprint,
            "key": self.key.hex(),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Identity":
        """Read what device.json holds.

        Raises:
            InvalidInputError: something is missing, or of another version.
        """
        try:
            if document["version"] != 1:
                raise InvalidInputError(f"device.json is of version {document['version']}; update driftline")
            return cls(
                str(document["id"]),
                str(document["name"]),
                str(document["url"]),
                document.get("fingerprint"),
                bytes.fromhex(document["key"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"device.json cannot be read ({error!r}); join the device anew") from error


class Home:
    """A device's folder; making this object touches nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Home":
        """Return the home that `DRIFTLINE_EDGE_HOME` names, or ~/.driftline/edge."""
        return cls(environment.get(HOME_VARIABLE) or "~/.driftline/edge")

    @property
    def spool(self) -> Path:
        """Where the outbox is."""
        return self.path / "spool.db"

    @property
    def bundles(self) -> Path:
        """Where downloaded model files are."""
        return self.path / "bundles"

    @property
    def socket(self) -> Path:
        """Where the agent listens: as its state says, else where an agent would."""
        told = self.state().get("socket")
        return Path(told) if isinstance(told, str) else self.socket_to_make()

    def socket_to_make(self) -> Path:
        """Return a socket path short enough for the kernel; an agent writes it into its state."""
        inside = self.path / "agent.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES_MAX:
            return inside
        base = Path(os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108  `Server` checks whose it is
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return base / f"driftline-{os.getuid()}-{name}" / "agent.sock"

    # ── identity and states ──────────────────────────────────────────────────────────────────────────────────────

    def identity(self) -> Identity:
        """Return who this device is.

        Raises:
            EntityNotFoundError: nobody joined a hub here.
        """
        document = self._read("device.json")
        if document is None:
            raise EntityNotFoundError(
                f"no device lives in {self.path}; join a hub first: driftline edge join TOKEN --home {self.path}"
            )
        return Identity.parse(document)

    @property
    def joined(self) -> bool:
        """Whether a device lives here."""
        return (self.path / "device.json").exists()

    def save_identity(self, identity: Identity) -> None:
        """Write who this device is."""
        self._write("device.json", identity.document)

    def desired(self) -> Desired | None:
        """Return what the hub last wanted, None where it never said or the file cannot be read."""
        document = self._read("desired.json")
        try:
            return None if document is None else desired_from(document)
        except ValueError:
            return None

    def save_desired(self, desired: Desired) -> None:
        """Remember what the hub wants, so that a device starts without a link."""
        self._write("desired.json", asdict(desired))

    def state(self) -> dict[str, Any]:
        """Return how the agent was when it last said so; empty where it never did."""
        return self._read("state.json") or {}

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Say how the agent is."""
        # Not synced to disk: after a power cut nobody asks how the agent was.
        self._write("state.json", state, durable=False)

    # ── one agent a home ─────────────────────────────────────────────────────────────────────────────────────────

    def make(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            NotAllowedError: it cannot be made or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise NotAllowedError(
                f"{self.path} cannot be made ({error.strerror}); name another folder with --home"
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise NotAllowedError(
                f"{self.path} is not writable by this user; name another with --home, or correct its owner"
            )

    def lock(self) -> "Lock":
        """Claim this home for one agent, until the lock is closed or the process ends, however it ends.

        Raises:
            ConflictError: an agent runs on it already; the message says its process id.
        """
        self.make()
        try:
            descriptor = os.open(self.path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NotAllowedError(f"{self.path} is not writable by this user ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            pid = self.state().get("pid", "unknown")
            raise ConflictError(
                f"an agent is already running on {self.path}, pid {pid}; stop it, or use another --home"
            ) from None
        return Lock(descriptor, self.path / "agent.lock")

    @property
    def running(self) -> bool:
        """Whether an agent holds this home."""
        if not (self.path / "agent.lock").exists():
            return False
        try:
            self.lock().close()
        except ConflictError:
            return True
        return False

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            document = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise NotAllowedError(f"{self.path / name} is not readable by this user") from error
        except ValueError:
            return None
        return cast("dict[str, Any]", document) if isinstance(document, dict) else None

    def _write(self, name: str, document: Mapping[str, Any], *, durable: bool = True) -> None:
        replace_file(self.path / name, json.dumps(document, indent=1).encode(), durable=durable)


class Lock:
    """A claim on a home."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def close(self) -> None:
        """Give the home back."""
        os.close(self._descriptor)

    def undo(self) -> None:
        """Give the home back as it was found: without the lock's file, and without the folder where it is empty."""
        self._path.unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):  # something is in it: it stays
            self._path.parent.rmdir()


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    # By hand: `tempfile` and what it imports would stay in an agent's memory, half a megabyte.
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
