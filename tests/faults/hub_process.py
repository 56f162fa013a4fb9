"""A hub for fault tests: what `driftline up` runs, without the device beside it.

Arguments: its folder, and the host and port to listen at.
"""

import signal
import sys
import threading
from pathlib import Path

from driftline.clock import SystemClock
from driftline.hub.command import Address, listen
from driftline.hub.config import Config
from driftline.hub.scorer import Scorer
from driftline.hub.server import Listener, open_hub


def main(home: Path, host: str, port: int) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with listen(host, port) as bound:
        address = Address.of(bound, home, Config(host=host))
        hub = open_hub(home, SystemClock(), address.url, address.fingerprint)
        listener, scorer = Listener(hub, bound, address.tls), Scorer(hub)
        listener.start()
        scorer.start()
        print(address.url, flush=True)
        # A signal that another thread takes does not wake this one.
        while not stopped.wait(0.1):
            pass
        scorer.stop()
        listener.stop()
        hub.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
