"""A hub for fault tests: what `driftline up` runs, without the device beside it. Arguments: its folder and its port."""

import signal
import sys
import threading
from pathlib import Path

from driftline.clock import SystemClock
from driftline.hub.command import listen
from driftline.hub.scorer import Scorer
from driftline.hub.server import Listener, open_hub


def main(home: Path, port: int) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with listen("127.0.0.1", port) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        hub = open_hub(home, SystemClock(), url)
        listener, scorer = Listener(hub, bound), Scorer(hub)
        listener.start()
        scorer.start()
        print(url, flush=True)
        # A signal that another thread takes does not wake this one.
        while not stopped.wait(0.1):
            pass
        scorer.stop()
        listener.stop()
        hub.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
