"""uvicorn without its command line: click, and what watches files, are 2 MB for which a device has no use."""

import sys
from types import ModuleType
from typing import Any


def _imported() -> None:
    """Import uvicorn with nothing in the place of `uvicorn.main`, which whoever asks for it later still gets."""
    if "uvicorn" in sys.modules:
        return
    place: Any = ModuleType("uvicorn.main")
    place.Server = place.main = place.run = None
    sys.modules[place.__name__] = place
    try:
        import uvicorn
        from uvicorn.server import Server
    finally:
        del sys.modules[place.__name__]
    del uvicorn.main, uvicorn.run
    uvicorn.Server = Server


_imported()

from uvicorn.config import Config  # noqa: E402  behind what it is for
from uvicorn.server import Server  # noqa: E402

__all__ = ["Config", "Server"]
