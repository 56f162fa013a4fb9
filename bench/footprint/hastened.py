"""`driftline edge run` in fast time: `python -m bench.footprint.hastened FACTOR OPTIONS`, the options as JSON.

Windows, sync and the agent's clock follow `DRIFTLINE_CLOCK`. What follows the machine's own clock (how long a
connection is kept, for how long request numbers are reserved, how often the state is written) is made to follow it
here, so that a fast day sends and writes what a day does.
"""

import importlib
import sys

from driftline.edge import start

# Seconds, or milliseconds' numbers, of the machine's clock.
OF_THE_MACHINE = {"IDLE_S_MAX": float, "NUMBERS_RESERVED": int, "STATE_EVERY_S": float}
MODULES = ("transport", "agent", "uplink")


def main() -> int:
    """Hasten, then be what the command becomes."""
    factor = float(sys.argv[1])
    # As `start.begin` does, before anything else is imported.
    for name in start.HARDLY_ASKED:
        start.defer(name)
    found: set[str] = set()
    for one in MODULES:
        module = importlib.import_module(f"driftline.edge.{one}")
        for name, kind in OF_THE_MACHINE.items():
            if hasattr(module, name):
                setattr(module, name, kind(getattr(module, name) / factor))
                found.add(name)
    if missing := OF_THE_MACHINE.keys() - found:
        raise SystemExit(f"what a fast day hastens is no longer there: {', '.join(sorted(missing))}")
    return start.begin(sys.argv[2])


if __name__ == "__main__":
    sys.exit(main())
