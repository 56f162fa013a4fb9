"""A hub for tests that kill it: what `driftline up` runs, without the device beside it.

Arguments: its folder, and the port to listen at. A claim on a notification lasts two seconds instead of eighty, so that
a test need not wait for what a killed hub had under way.
"""

import signal
import sys
import threading
from pathlib import Path

from driftline.clock import SystemClock
from driftline.hub.command import listen
from driftline.hub.notify.notifier import Notifier
from driftline.hub.scorer import Scorer
from driftline.hub.server import Listener, open_hub


def main(home: Path, port: int) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with listen("127.0.0.1", port) as bound:
        hub = open_hub(home, SystemClock(), f"http://127.0.0.1:{bound.getsockname()[1]}", private_targets=True)
        parts = Listener(hub, bound), Scorer(hub), Notifier(hub, claim_s=2.0)
        for one in parts:
            one.start()
        print(hub.url, flush=True)
        while not stopped.wait(0.1):
            pass
        for one in reversed(parts):
            one.stop()
        hub.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
