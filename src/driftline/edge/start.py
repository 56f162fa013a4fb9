"""`driftline edge run`: starts the agent with as little in memory as it needs.

`dataclasses` imports `inspect`, for classes without a docstring, and `linecache` the tokenizer, for the source of a
traceback. Together they and what they import are 1.3 MB that an agent hardly ever asks anything, so they are loaded
when it does. (`importlib.util.LazyLoader` does the same, but an import statement wakes what it made.) What importing
the rest has freed goes back to the system (`heap.py`).
"""

import importlib.util
import sys
from argparse import Namespace
from importlib import import_module
from types import ModuleType

from driftline.edge import heap

HARDLY_ASKED = ("inspect", "tokenize")


def run(options: Namespace) -> int:
    """Run the device that lives in `options.home`; see `driftline.edge.agent.run`."""
    for name in HARDLY_ASKED:
        defer(name)
    heap.share_one_heap()
    return int(import_module("driftline.edge.agent").run(options))


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
