"""Everything else that tells people things, through Apprise (extra `[apprise]`): chats, pagers, phones."""

import contextlib
import importlib
import logging
from collections.abc import Generator
from typing import Any

from driftline.errors import InvalidInputError, MissingExtraError, NotAllowedError, TemporaryError
from driftline.hub.notify import message
from driftline.wire import api

URL_LENGTH_MAX = 2048


def check(url: str, *, private: bool) -> None:
    """Refuse an address that Apprise does not know, or whose service may be on any machine.

    Apprise connects by itself, so where it goes cannot be judged as for webhooks: a service that has its host in its
    address (`ntfy://HOST/…`, `json://HOST`) needs the leave of the hub's owner; those of one provider do not.

    Raises:
        InvalidInputError: Apprise cannot read it.
        NotAllowedError: it names a host, and the hub's owner did not allow private targets.
        MissingExtraError: Apprise is not installed.
    """
    kind = type(_plugin(url))
    names_host = any("{host}" in one for one in getattr(kind, "templates", ()))
    if names_host and not private:
        raise NotAllowedError(
            f"{shown(url)} may be on any machine, also on one that only this hub reaches; the owner of the hub allows "
            "that with: driftline up --private-targets"
        )


def send(url: str, told: api.Notification, dashboard: str, *, private: bool) -> str:
    """Tell one service.

    Raises:
        TemporaryError: it does not take it now.
    """
    check(url, private=private)
    with _quiet():
        done = _plugin(url).notify(
            title=message.subject(told), body="\n".join(message.lines(told, dashboard)), body_format="text"
        )
    if not done:
        raise TemporaryError(f"{shown(url)} does not take it; see whether its address is still right")
    return f"{shown(url)} took it"


def shown(url: str) -> str:
    """Return what of an address is no secret: which service it is.

    >>> shown("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    'slack://…'
    """
    return f"{url.partition('://')[0][:20]}://…"


def _plugin(url: str) -> Any:
    apprise = _apprise()
    with _quiet():
        made = apprise.Apprise.instantiate(url, suppress_exceptions=True) if len(url) <= URL_LENGTH_MAX else None
    if made is None:
        raise InvalidInputError(
            f"Apprise does not know {shown(url)}; its services and their addresses are listed in its documentation"
        )
    return made


def _apprise() -> Any:
    try:
        return importlib.import_module("apprise")
    except ModuleNotFoundError as error:
        raise MissingExtraError("a channel of kind apprise", "apprise") from error


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep Apprise's log off the hub's: what it says names addresses, and these are secrets."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
