"""A model version as the hub knows it."""

import sys
import time
from datetime import datetime

import msgspec

from driftline.errors import InvalidInputError, TemporaryError
from driftline.sdk.html import card
from driftline.sdk.http import Connection
from driftline.sdk.text import Text
from driftline.sdk.times import from_ns
from driftline.wire import api

_POLL_S = 0.2


class Model:
    """One version of a model: immutable; the newest facts about its state are fetched by `refresh()`."""

    def __init__(self, connection: Connection, facts: api.Model) -> None:
        self._connection = connection
        self._facts = facts

    @property
    def id(self) -> Text:
        """The id of this version on the hub; deployment configurations name it."""
        return Text(self._facts.id)

    @property
    def name(self) -> Text:
        """The name that all versions share."""
        return Text(self._facts.name)

    @property
    def version(self) -> Text:
        """What tells this version from others of its name."""
        return Text(self._facts.version)

    @property
    def framework(self) -> Text:
        """How it runs, `onnx` or `custom`."""
        return Text(self._facts.framework)

    @property
    def status(self) -> Text:
        """How far it is, as last fetched: pending, loading, ready or error."""
        return Text(self._facts.status)

    @property
    def error(self) -> str | None:
        """Why it cannot run, where the status is error."""
        return self._facts.error

    @property
    def sha(self) -> Text:
        """The SHA-256 of its file."""
        return Text(self._facts.digest)

    @property
    def created(self) -> datetime:
        """When it was uploaded."""
        return from_ns(self._facts.created_ns)

    @property
    def input_schema(self) -> list[dict[str, object]]:
        """What it takes: name, type and shape of each field."""
        return self._facts.input_schema

    @property
    def output_schema(self) -> list[dict[str, object]]:
        """What it gives."""
        return self._facts.output_schema

    def refresh(self) -> "Model":
        """Fetch its state from the hub."""
        self._facts = self._connection.get(f"/models/{self._facts.id}", api.Model)
        return self

    def wait_until_ready(self, timeout_s: float = 600.0) -> "Model":
        """Wait until the hub has loaded it once, printing progress.

        Raises:
            InvalidInputError: it cannot run, with the hub's reason.
            TemporaryError: it is not ready in time.
        """
        print(f"Waiting for model loading - this will take up to {timeout_s / 60:.1f}min.")
        runtime = "container" if self.framework == "custom" else "native"
        until = time.monotonic() + timeout_s
        phase = ""
        while self.refresh().status in {"pending", "loading"}:
            if time.monotonic() > until:
                print(flush=True)
                raise TemporaryError(
                    f"model {self.name!r} is still {self.status} after {timeout_s:g} s; look again with "
                    "model.refresh().status, or upload it with a longer timeout_s"
                )
            if self.status != phase:
                line = "" if not phase else "\n"
                phase = str(self.status)
                verb = "pending" if phase == "pending" else "attempting"
                sys.stdout.write(f"{line}Model is {verb} loading to a {runtime} runtime.")
            else:
                sys.stdout.write(".")
            sys.stdout.flush()
            time.sleep(_POLL_S)
        if self.status == "error":
            print("failed" if phase else "", flush=True)
            raise InvalidInputError(f"model {self.name!r} cannot run: {self.error}")
        print("successful\n" if phase else "", flush=True)
        print("Ready", flush=True)
        return self

    def _facts_shown(self) -> dict[str, object]:
        shown: dict[str, object] = {
            "Name": self.name,
            "Version": self.version,
            "Framework": self.framework,
            "SHA": self.sha,
            "Status": self.status,
            "Created": self.created.isoformat(timespec="seconds"),
        }
        return {**shown, "Error": self.error} if self.error else shown

    def __repr__(self) -> str:
        return f"<model {self.name!r}, version {self.version}, {self.framework}, {self.status}>"

    def _repr_html_(self) -> str:
        return card(self._facts_shown())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.id == self.id

    def __hash__(self) -> int:
        return hash(str(self.id))

    def to_dict(self) -> dict[str, object]:
        """Return all facts as a dictionary."""
        return dict(msgspec.structs.asdict(self._facts))
