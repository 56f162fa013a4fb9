"""A hub with TLS on loopback, without a device of its own: `python -m bench.footprint.hub HOME`.

It says where it answers in one line of JSON, and ends when its standard input does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import driftline
from bench.peers import CACHE
from driftline.clock import from_environment
from driftline.edge.home import Home
from driftline.edge.join import join
from driftline.hub.command import listen
from driftline.hub.registry import Checker
from driftline.hub.server import Listener, open_hub
from driftline.hub.tls import certificate
from driftline.sdk.client import Client
from driftline.sdk.pipeline import Pipeline


def main() -> None:
    """Answer until nobody listens any more."""
    home = Path(sys.argv[1])
    certificate_file, key_file, fingerprint = certificate(home / "tls", "127.0.0.1")
    with listen("127.0.0.1", 0) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        hub = open_hub(home, from_environment(), url, fingerprint)
        listener, checker = Listener(hub, listening, (certificate_file, key_file)), Checker(hub)
        listener.start()
        checker.start()
        print(json.dumps({"url": url, "fingerprint": fingerprint}), flush=True)
        sys.stdin.read()
        checker.stop()
        listener.stop()
        hub.database.close()


@dataclass(frozen=True)
class RunningHub:
    """A hub in a process of its own; `environment` is what its devices run with."""

    client: Client
    url: str
    environment: Mapping[str, str]

    def device(self, name: str, home: Path, pipeline: Pipeline) -> Home:
        """Publish a pipeline to a new device and let it join."""
        token = pipeline.publish().add_edge(name).token
        if token is None:
            raise RuntimeError(f"the device {name!r} has joined before")
        place = Home(home)
        join(place, str(token))
        return place


@contextmanager
def running_hub(folder: Path, **more: str) -> Iterator[RunningHub]:
    """Start a hub in a folder, with further environment."""
    environment = installed_environment() | more
    _compile(environment)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.footprint.hub", folder / "hub"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        told = json.loads(process.stdout.readline() if process.stdout else "")
        client = driftline.Client(told["url"], fingerprint=told["fingerprint"])
        yield RunningHub(client, told["url"], environment)
    finally:
        process.communicate(timeout=30)


def _compile(environment: Mapping[str, str]) -> None:
    # What is compiled when it is imported leaves a megabyte in a process that then looks like one in use.
    source = str(Path(driftline.__file__).parent)
    subprocess.run([sys.executable, "-m", "compileall", "-q", source], env=environment, check=True)


def installed_environment() -> dict[str, str]:
    """Return this environment as a device has it: modules are compiled once, as pip does when it installs them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(CACHE / "compiled"), "ORT_DISABLE_TELEMETRY": "1"}


if __name__ == "__main__":
    main()
