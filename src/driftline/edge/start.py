"""`driftline edge run`: begins again as a process that loads what an agent needs and nothing else.

Whoever reads a command line has argparse in memory, and an agent runs for years: it is handed its options as JSON and
replaces the process that read them, under the same number. `dataclasses` imports `inspect`, for classes without a
docstring, `logging` `traceback`, for errors it is handed, that `textwrap` and `linecache`, and this the tokenizer, for
the source, `urllib.parse` the addresses, for those in brackets, `ssl` base64, for certificates as text, `socket`
selectors, to send files, the limits chance, and the supervisor subprocesses, for a worker, which a device that only
observes need not have. Together they and what they import are 2.8 MB that an agent hardly ever asks anything, so they
are loaded when it does.
(`importlib.util.LazyLoader` does the same, but an import statement wakes what it made.) What importing the rest has
freed goes back to the system (`heap.py`).
"""

import importlib.util
import json
import os
import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

from driftline.edge import heap
from driftline.errors import DriftlineError

if TYPE_CHECKING:
    from argparse import Namespace

HARDLY_ASKED = (
    "inspect", "tokenize", "ipaddress", "traceback", "textwrap", "base64", "selectors", "subprocess", "random",
    "locale",
)  # fmt: skip


def run(options: "Namespace") -> int:
    """Become the agent of the device that lives in `options.home`; see `driftline.edge.agent.run`."""
    begins = [sys.executable, "-P", "-m", "driftline.edge.start", told(options)]
    os.execv(sys.executable, begins)  # noqa: S606  itself, and no shell is wanted


def told(options: "Namespace") -> str:
    """Return the options of the command as the agent is handed them."""
    unfit = ("command", "action", "runs")
    return json.dumps({name: value for name, value in vars(options).items() if name not in unfit}, default=str)


def begin(text: str) -> int:
    """Run the agent with these options; an error is one sentence, as from every command."""
    for name in HARDLY_ASKED:
        defer(name)
    heap.share_one_heap()
    try:
        return int(import_module("driftline.edge.agent").run(SimpleNamespace(**json.loads(text))))
    except KeyboardInterrupt:
        return 130
    except DriftlineError as error:
        print(f"driftline: {error}", file=sys.stderr)
        return 1


class Deferred(ModuleType):
    """A module that is not loaded yet."""

    def __getattr__(self, name: str) -> object:
        """Load it: the first who asks for anything waits."""
        if self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(name)
        self.__spec__.loader.exec_module(self)
        object.__setattr__(self, "__class__", ModuleType)
        return getattr(self, name)


def defer(name: str) -> None:
    """Let a module load when it is first asked for something; one that is there already stays."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        module = Deferred(name)
        module.__spec__, module.__loader__ = spec, spec.loader
        sys.modules[name] = module


if __name__ == "__main__":
    sys.exit(begin(sys.argv[1]))
