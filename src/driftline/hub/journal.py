"""What the hub writes for its operator: sentences on standard error, or JSON, one object a line.

In JSON every line has `time`, `level`, `message` and, where it belongs to a request, the `request` whose id the answer
carries, too; requests have lines of their own there. Neither form ever holds a secret: a request's line names the
route as it was declared, without what was in its address, head or body, and what an error says is cleaned of whatever
looks like one, wherever it came from.
"""

import contextvars
import logging
import re
import sys
import time
import traceback
from typing import Any, Literal

import msgspec

from driftline.clock import iso

Form = Literal["text", "json"]

# The request that is being answered, for what is logged and answered meanwhile.
REQUEST: contextvars.ContextVar[str | None] = contextvars.ContextVar("driftline_request", default=None)

_LOG = logging.getLogger("driftline.hub")
# What others of this process write: the server's complaints, warnings of libraries.
_OTHERS = ("uvicorn", "py.warnings", "alembic", "apprise")
_HIDDEN = "…"
_SECRETS = (
    # Ours say what they are: sessions and tokens (`people.PREFIX`), a webhook's secret, what a device joins with.
    (re.compile(r"\b(dl[a-z]_|whsec_|dl1\.)[A-Za-z0-9_+/=-]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s'\",;]+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (
        re.compile(
            r"""(["']?\b(?:[a-z]+_)?(?:password|passwd|secret|token|api_?key|cookie|authorization)["']?\s*[=:]\s*)"""
            r"""("[^"]*"|'[^']*'|[^\s,;&)}\]]+)""",
            re.IGNORECASE,
        ),
        rf"\1{_HIDDEN}",
    ),
)
# Of an address only where it is: who logs in there, its path (a webhook's) and its query may each be the secret, and of
# a service (`tgram://TOKEN/…`) so may what stands where others have their host.
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://(?:[^\s/@'\"]*@)?([^\s/?#'\"]*)([^\s'\"]*)", re.IGNORECASE)
_HAVE_HOSTS = frozenset({"http", "https", "postgresql", "smtp", "smtps"})


def begin(form: Form) -> None:
    """Write in this form from now on, whoever of this process writes."""
    _HANDLER.form = form
    logging.captureWarnings(capture=form == "json")
    for name in _OTHERS:
        other = logging.getLogger(name)
        other.handlers, other.propagate = [_HANDLER], False


def tell(text: str, error: BaseException | None = None) -> None:
    """Say what the operator should know; of an `error` that is our own bug, where it happened."""
    _LOG.warning(text, exc_info=error)


def note(text: str, **facts: Any) -> None:
    """Say what went well, in JSON alone: a terminal is for what somebody should do something about."""
    if _HANDLER.form == "json":
        _LOG.info(text, extra={"facts": facts})


def announce(text: str) -> None:
    """Say where the hub is: on standard output to who started it, or as a line like all others."""
    if _HANDLER.form == "json":
        _LOG.info(text)
    else:
        print(text, flush=True)


def clean(text: str) -> str:
    """Return a text without whatever looks like a secret.

    >>> clean("https://ada:hunter2@hooks.example/x?key=1 refused dlt_abc, password=hunter2")
    'https://hooks.example/… refused dlt_…, password=…'
    """
    text = _ADDRESS.sub(_place, text)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _place(address: re.Match[str]) -> str:
    scheme, host, rest = address.groups()
    if scheme.lower() not in _HAVE_HOSTS:
        return f"{scheme}://{_HIDDEN}"
    return f"{scheme}://{host}" + (f"/{_HIDDEN}" if rest.strip("/.,;:)") else rest)


class _Handler(logging.Handler):
    """Writes to the standard error that is there now, as tests replace it."""

    form: Form = "text"

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or a sentence with its traceback."""
        message = clean(record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        trace = clean("".join(traceback.format_exception(error))) if error is not None else None
        if self.form == "text":
            print(f"driftline: {message}" + (f"\n{trace.rstrip()}" if trace else ""), file=sys.stderr, flush=True)
            return
        line: dict[str, Any] = {"time": iso(time.time_ns()), "level": record.levelname.lower(), "message": message}
        if (request := REQUEST.get()) is not None:
            line["request"] = request
        facts: dict[str, Any] = getattr(record, "facts", {})
        line |= {name: clean(value) if isinstance(value, str) else value for name, value in facts.items()}
        if trace is not None:
            line["traceback"] = trace
        print(msgspec.json.encode(line).decode(), file=sys.stderr, flush=True)


_HANDLER = _Handler()
_LOG.addHandler(_HANDLER)
_LOG.setLevel(logging.INFO)
_LOG.propagate = False
