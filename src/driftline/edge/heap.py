"""What the C library keeps of freed memory goes back to the system.

glibc gives each thread a heap of its own, most of it holes once a sync is over: a part of what an agent
would hold after a day. Another C library has no such calls: there nothing changes, and nothing depends on it.
"""

from functools import cache
from typing import Any

# <malloc.h>
M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let threads to come use the one heap there is; call it before the first starts."""
    library = _glibc()
    if library is not None:
        library.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give back what is free; takes a millisecond."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Return the C library, None where it is another one or Python was built without a way to call it."""
    try:
        from ctypes import CDLL

        library = CDLL(None)
        return library if library.malloc_trim and library.mallopt else None
    except (ImportError, OSError, AttributeError):
        return None
