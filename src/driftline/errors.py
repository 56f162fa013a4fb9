"""What can go wrong, in two families: try again later, or do not.

Every message carries the facts and the way out, because it is the first page of documentation most people read.
"""


class DriftlineError(Exception):
    """Any failure driftline explains."""

    code = "error"


class TemporaryError(DriftlineError):
    """Trying again later may succeed: a link is down, a process is starting."""

    code = "temporary"


class PermanentError(DriftlineError):
    """Trying again without a change will fail again."""

    code = "permanent"


class InvalidInputError(PermanentError, ValueError):
    """What was given cannot be used; the message says what would be."""

    code = "invalid"


class EntityNotFoundError(PermanentError, LookupError):
    """No such workspace, model, pipeline, device or assay."""

    code = "not_found"


class ConflictError(PermanentError):
    """It is there already, or it belongs to somebody else."""

    code = "conflict"


class NotAllowedError(PermanentError):
    """The caller may not do this."""

    code = "not_allowed"


class NotLoggedInError(NotAllowedError):
    """The hub wants to know who asks, and does not, or no longer."""

    code = "not_logged_in"


class StaleRequestError(NotAllowedError):
    """A signed request whose number is not above `last`, the last that was used; a greater number may be tried."""

    code = "stale_request"

    def __init__(self, message: str, last: int = 0) -> None:
        super().__init__(message)
        self.last = last


class NotYetError(PermanentError, NotImplementedError):
    """A call the reference platform has and driftline does not have yet."""

    code = "not_yet"


class MissingExtraError(PermanentError, ImportError):
    """An optional part of driftline is not installed; the message is the command that installs it."""

    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra [{extra}]; install it with: pip install 'driftline[{extra}]'")


class UnreachableError(TemporaryError):
    """Nobody answers at this address."""

    code = "unreachable"


class EmptyWindowError(PermanentError, ValueError):
    """No values arrived, which is not the same as no drift."""

    code = "empty_window"


def by_code(code: str) -> type[DriftlineError]:
    """Return the class that travels under this code, so that an error crosses the network as itself.

    >>> by_code("not_found").__name__
    'EntityNotFoundError'
    >>> by_code("of the future").__name__
    'PermanentError'
    """
    kinds: list[type[DriftlineError]] = [
        TemporaryError,
        InvalidInputError,
        EntityNotFoundError,
        ConflictError,
        NotAllowedError,
        NotLoggedInError,
        StaleRequestError,
        NotYetError,
        UnreachableError,
        EmptyWindowError,
    ]
    return next((kind for kind in kinds if kind.code == code), PermanentError)
