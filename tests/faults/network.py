"""Two hosts and a bad link between them, without containers: two network namespaces joined by a pair of TUN devices.

As a program this file makes the namespaces and carries every packet between them, as the weather on its standard input
says, until that ends. They have no name, and whatever runs in them ends with it: nothing is left behind. As a module
it has `Network`, which runs the program.

    in    {"delay_s": 2, …}                                            one line of JSON, a `Weather`
    out   {"hub": path, "device": path}                                first: the two namespaces, or {"refused": why}
    out   {"packets": [up, down], "bytes": […], "connections": […]}    to each line: what was carried until then
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TUN = Path("/dev/net/tun")
NAME = "bad0"
ADDRESSES = {"hub": "10.77.0.1", "device": "10.77.0.2"}
PACKET_BYTES_MAX = 1400
# What does not fit into a router's queue is lost: four seconds at 64 kbit/s.
QUEUE_BYTES_MAX = 32 * 1024
OVERTAKEN_FOR_S = (0.05, 0.3)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to packets, either way; shares are of 1.

    `delay_s` is one way; up to `jitter_s` come on top at random. `overtaken` are held back, so that later ones pass
    them. `flipped` have one bit turned round, which checksums see; in `swapped` two words have changed places, which
    no checksum of TCP sees.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0
    flipped: float = 0.0
    swapped: float = 0.0
    bits_per_s: float | None = None
    cut: bool = False


class Network:
    """Runs this file as a program; `hub` and `device` are the hosts."""

    def __init__(self, seed: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        made = self._line()
        if refused := made.get("refused"):
            self.close()
            raise PermissionError(f"no network namespace can be made here: {refused}")
        self.hub, self.device = Host(made["hub"]), Host(made["device"])

    def set(self, **weather: Any) -> dict[str, list[int]]:
        """Change the weather to exactly this; return what was carried until now, up to the hub and down."""
        assert self._process.stdin is not None
        print(json.dumps(asdict(Weather(**weather))), file=self._process.stdin)
        return self._line()

    def close(self) -> None:
        """End it, and everything on its hosts."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the network has ended"
        return json.loads(line)


class Host:
    """One end of the link, as the path of its namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    @property
    def command(self) -> list[str]:
        """What to put before a command that is to run there."""
        return ["nsenter", f"--net={self.namespace}"]

    @contextmanager
    def inside(self) -> Generator[None]:
        """Let this thread be there: what it connects meanwhile, it connects from there."""
        with Path("/proc/thread-self/ns/net").open() as before, Path(self.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


# ── the program ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Way:
    """One direction: packets in, and each out when it is due."""

    def __init__(self, source: int, target: int, rng: random.Random) -> None:
        self.source, self.packets, self.bytes, self.connections = source, 0, 0, 0
        self._target = target
        self._rng = rng
        self._waiting: list[tuple[float, int, bytes]] = []
        self._free_s = 0.0

    @property
    def due_s(self) -> float:
        return self._waiting[0][0] if self._waiting else float("inf")

    def take(self, packet: bytes, now_s: float, weather: Weather) -> None:
        """Take a packet; most come out again."""
        self.packets += 1
        self.bytes += len(packet)
        self.connections += opens_connection(packet)
        sent_s = self._transmitted(len(packet), now_s, weather.bits_per_s)
        if sent_s is None or weather.cut or self._happens(weather.lost):
            return
        packet = self._damaged(packet, weather)
        for _ in range(1 + self._happens(weather.doubled)):
            due_s = sent_s + weather.delay_s + self._rng.random() * weather.jitter_s
            due_s += self._rng.uniform(*OVERTAKEN_FOR_S) if self._happens(weather.overtaken) else 0.0
            heapq.heappush(self._waiting, (due_s, self.packets, packet))

    def give(self, now_s: float) -> None:
        """Let out what is due."""
        while self.due_s <= now_s:
            with suppress(OSError):  # a damaged header: the kernel has no use for it
                os.write(self._target, heapq.heappop(self._waiting)[2])

    def lose(self) -> None:
        """Forget what is on its way."""
        self._waiting.clear()

    def _transmitted(self, size: int, now_s: float, bits_per_s: float | None) -> float | None:
        """Return when the last bit of it is through; None where the queue before the link is full."""
        if bits_per_s is None:
            return now_s
        began_s = max(now_s, self._free_s)
        if (began_s - now_s) * bits_per_s / 8 > QUEUE_BYTES_MAX:
            return None
        self._free_s = began_s + size * 8 / bits_per_s
        return self._free_s

    def _happens(self, share: float) -> bool:
        return self._rng.random() < share

    def _damaged(self, packet: bytes, weather: Weather) -> bytes:
        damaged, content = bytearray(packet), content_offset(packet)
        if self._happens(weather.flipped):
            damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        words = (len(damaged) - content) // 2
        if words >= 2 and self._happens(weather.swapped):
            first, second = (content + 2 * self._rng.randrange(words) for _ in range(2))
            damaged[first : first + 2], damaged[second : second + 2] = (
                damaged[second : second + 2],
                damaged[first : first + 2],
            )
        return bytes(damaged)


def content_offset(packet: bytes) -> int:
    """Return where the content of a TCP packet begins; a packet of another kind is never damaged there."""
    start = 4 * (packet[0] & 0xF)
    is_tcp = packet[0] >> 4 == 4 and packet[9] == 6 and len(packet) >= start + 20
    return start + 4 * (packet[start + 12] >> 4) if is_tcp else len(packet)


def opens_connection(packet: bytes) -> bool:
    start = 4 * (packet[0] & 0xF)
    is_tcp = packet[0] >> 4 == 4 and packet[9] == 6 and len(packet) >= start + 20
    return is_tcp and packet[start + 13] & 0x12 == 0x02


def host(address: str, other: str) -> tuple[int, str]:
    """Move into a namespace of its own with one end of the link; return that end, and the namespace's path."""
    if _libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare is not allowed")
    # Opened here, so that the device appears here.
    end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", NAME.encode(), IFF_TUN | IFF_NO_PI))
    for arguments in (
        "link set lo up",
        f"address add {address} peer {other} dev {NAME}",
        f"link set {NAME} up mtu {PACKET_BYTES_MAX}",
        # A way out, by which a hub that listens everywhere finds its own address.
        f"route add default dev {NAME}",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    return end, f"/proc/{os.getpid()}/fd/{namespace}"


def carry(up: Way, down: Way) -> None:
    """Carry packets until standard input ends."""
    weather = Weather()
    commands = os.fdopen(0, "rb", buffering=0)
    while True:
        due_s = min(up.due_s, down.due_s)
        pause_s = None if due_s == float("inf") else max(0.0, due_s - time.monotonic())
        ready, _, _ = select.select([commands, up.source, down.source], [], [], pause_s)
        for way in (up, down):
            if way.source in ready:
                packet = os.read(way.source, 65536)
                if packet[0] >> 4 == 4:  # the kernel looks for routers by itself, in version 6
                    way.take(packet, time.monotonic(), weather)
            way.give(time.monotonic())
        if commands in ready:
            line = commands.readline()
            if not line:
                return
            weather = Weather(**json.loads(line))
            for way in (up, down):
                if weather.cut:
                    way.lose()
            told = {name: [getattr(up, name), getattr(down, name)] for name in ("packets", "bytes", "connections")}
            print(json.dumps(told), flush=True)


def end_everything(namespaces: Sequence[str]) -> None:
    """Kill what runs in these namespaces."""
    ours = {Path(one).stat().st_ino for one in namespaces}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) not in {os.getpid(), os.getppid()}:
            with suppress(OSError):
                if (process / "ns" / "net").stat().st_ino in ours:
                    os.kill(int(process.name), signal.SIGKILL)


def main(seed: int) -> None:
    try:
        hub, hub_namespace = host(ADDRESSES["hub"], ADDRESSES["device"])
        device, device_namespace = host(ADDRESSES["device"], ADDRESSES["hub"])
    except PermissionError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    print(json.dumps({"hub": hub_namespace, "device": device_namespace}), flush=True)
    try:
        carry(Way(device, hub, random.Random(seed)), Way(hub, device, random.Random(seed + 1)))
    finally:
        end_everything([hub_namespace, device_namespace])


if __name__ == "__main__":
    main(int(sys.argv[1]))
