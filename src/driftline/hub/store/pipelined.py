"""A connection of pg8000 that says what it has to say in one trip.

The driver waits for the server three times a statement, for the text, its values and its execution, as often for a
commit or a rollback, and once for the beginning of a transaction; and it reads a socket in small pieces. Each wait
hands the interpreter to another thread, of which a hub that scores and takes in a fleet has many: an answer to a person
would wait for their turns a hundred times. Here a statement goes in one piece, as the protocol has it ("Pipelining"),
and its marks for values are found once a text.

Of the driver's two forms it is the newer, `pg8000.dbapi`: what the server refuses is a DatabaseError, of whatever kind.
"""

from functools import lru_cache
from typing import Any

from pg8000 import core, dbapi

# Bytes read or written at once, as many as a socket within one machine holds.
BUFFER = 1 << 18
# The protocol counts them in 16 bits.
VALUES_MAX = (1 << 16) - 1
# The statement and the portal of no name, which the next statement replaces.
_UNNAMED = core.NULL_BYTE
_EVERY_ROW = core.i_pack(0)
# In these words SQLAlchemy knows that the connection is of no more use.
_GONE = "network error"


class Pipelined(dbapi.Connection):
    """A connection as the driver's own, with one trip a statement."""

    _usock: Any
    _sock: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The server is ready and has said nothing since: nothing is left in the smaller buffer.
        self._sock = self._usock.makefile("rwb", buffering=BUFFER)

    def wait_for_ever(self) -> None:
        """Let a statement take as long as it takes; what connecting may take was said to the socket."""
        self._usock.settimeout(None)  # with TLS it is another socket around the one that was given

    def cursor(self) -> "Cursor":
        """Return a new cursor."""
        return Cursor(self)

    def execute_unnamed(self, statement: str, vals: Any = (), oids: Any = (), stream: Any = None) -> core.Context:
        """Execute a statement with its values, `$1` where the first goes.

        Raises:
            Error: of the driver: the server refuses it, or is gone.
        """
        if stream is not None:  # in the middle of COPY the server does not hear what was said before
            return super().execute_unnamed(statement, vals, oids, stream)
        return self._execute(statement, vals, oids)

    def execute_marked(self, statement: str, vals: Any, oids: Any) -> core.Context | None:
        """Execute a statement with `%s` where a value goes, in a transaction, which begins with it if there is none.

        None where that is not for one trip: nothing was said. Raises as `execute_unnamed`.
        """
        if self._sock is None or self.autocommit:
            return None
        return self._execute(_numbered(statement), vals, oids, begins=not self._in_transaction)

    def handle_messages(self, context: Any) -> None:
        """Hear the answer, up to where the server is ready for more."""
        try:
            super().handle_messages(context)
        except OSError as error:
            raise core.InterfaceError(_GONE) from error

    def _execute(self, statement: str, vals: Any, oids: Any, *, begins: bool = False) -> core.Context:
        context, params = core.Context(statement), self._checked(statement, vals)
        if begins:
            # Before the same SYNC: where the server cannot begin it does nothing of what follows.
            self._say("begin transaction", (), ())
        self._say(statement, params, oids, is_asked=True)
        self._send_message(core.SYNC, b"")
        try:
            self._sock.flush()
        except OSError as error:
            raise core.InterfaceError(_GONE) from error
        self.handle_messages(context)
        return context

    def _checked(self, statement: str, vals: Any) -> Any:
        """Return values as they are said, when all of it was seen to be sayable: what was begun stays in the buffer."""
        params = core.make_params(self.py_types, vals)
        "".join((statement, *filter(None, params))).encode(self._client_encoding or "utf-8")
        if len(params) > VALUES_MAX:
            raise core.InterfaceError(f"{len(params)} values, a statement has {VALUES_MAX} at most")
        return params

    def _say(self, statement: str, params: Any, oids: Any, *, is_asked: bool = False) -> None:
        """Say one statement; what its rows are like is asked where there may be any.

        Without the driver's FLUSH behind each message, which lets the server answer in pieces.
        """
        self.send_PARSE(_UNNAMED, statement, oids)
        self.send_BIND(_UNNAMED, params)
        if is_asked:
            self._send_message(core.DESCRIBE, core.PORTAL + _UNNAMED)
        self._send_message(core.EXECUTE, _UNNAMED + _EVERY_ROW)


class Cursor(dbapi.Cursor):
    """A cursor as the driver's own, for a `Pipelined` connection."""

    def execute(self, operation: str, args: Any = (), stream: Any = None) -> None:
        """Execute a statement, with a sequence of values where it has marks (`%s`) for them.

        Raises:
            Error: of the driver: the server refuses it, or is gone.
        """
        own: Pipelined | None = self._c
        context = None
        if own is not None and len(args) and stream is None:
            context = own.execute_marked(operation, args, self._input_oids)
        if context is None:
            super().execute(operation, args, stream)
            return
        self._context = context
        self._row_iter = None if context.rows is None else iter(context.rows)
        self._input_oids = ()
        self.input_types = []


@lru_cache(maxsize=256)
def _numbered(statement: str) -> str:
    return dbapi.convert_paramstyle("format", statement, ())[0]
