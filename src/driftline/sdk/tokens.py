"""How a program gets into a hub that knows people by their logins: a person lets it in with their browser, once.

The tokens are kept in `tokens.json` beside the login file, for its owner alone; `DRIFTLINE_TOKEN`, an API token, goes
before them and is kept nowhere. RFC 8628: the program shows a code and asks until somebody has confirmed it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftline.errors import InvalidInputError, NotLoggedInError

TOKEN_VARIABLE = "DRIFTLINE_TOKEN"  # noqa: S105  its name, not a token
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT = "driftline"

# Posts a form to a path of the hub; returns the status and the answer.
Post = Callable[[str, Mapping[str, str]], tuple[int, dict[str, Any]]]


class Tokens:
    """What this person's programs come to one hub with."""

    def __init__(
        self,
        url: str,
        path: Path,
        environment: Mapping[str, str] = os.environ,
        *,
        say: Callable[[str], None] = print,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self.path = path
        # What is asked for when a person lets the program in; None is for the hub to say.
        self.scope: str | None = None
        self._given = environment.get(TOKEN_VARIABLE)
        self._say, self._sleep = say, sleep
        self._kept: dict[str, str] = _read(path).get(url, {})

    def bearer(self) -> str | None:
        """Return the token to come with; None as long as none was needed."""
        return self._given or self._kept.get("access_token")

    def renew(self, post: Post) -> None:
        """Get a new token: with the refresh token, else by letting a person confirm.

        Raises:
            NotLoggedInError: nobody let the program in, or the token in the environment is worth nothing.
        """
        if self._given:
            raise NotLoggedInError(
                f"the token in {TOKEN_VARIABLE} is worth nothing (any more); make another: driftline token new"
            )
        with self._locked():
            # Another program of this person may have been quicker: a refresh token works once.
            newest = _read(self.path).get(self.url, {})
            if newest.get("access_token") not in {None, self._kept.get("access_token")}:
                self._kept = newest
                return
            self._keep(self._refreshed(post, newest.get("refresh_token")) or self._let_in(post))

    def forget(self) -> None:
        """Forget what is kept for this hub."""
        with self._locked():
            self._keep({})

    def _refreshed(self, post: Post, refresh: str | None) -> dict[str, str] | None:
        if refresh is None:
            return None
        status, answer = post("/oauth/token", {"grant_type": "refresh_token", "refresh_token": refresh})
        return answer if status == 200 else None

    def _let_in(self, post: Post) -> dict[str, str]:
        asked = {"client_id": CLIENT} | ({"scope": self.scope} if self.scope else {})
        status, begun = post("/oauth/device_authorization", asked)
        if status != 200:
            raise NotLoggedInError(f"{self.url} lets nobody log in ({begun.get('error_description', status)})")
        self._say("Please log into the following URL in a web browser:\n")
        self._say(f"\t{begun['verification_uri_complete']}\n")
        self._say(f"and confirm the code {begun['user_code']} there.")
        interval_s = float(begun.get("interval", 5))
        for _ in range(int(begun["expires_in"] / interval_s) + 1):
            self._sleep(interval_s)
            asked = {"grant_type": GRANT, "device_code": str(begun["device_code"]), "client_id": CLIENT}
            status, answer = post("/oauth/token", asked)
            if status == 200:
                self._say("Login successful!")
                return answer
            if answer.get("error") == "slow_down":
                interval_s += 5
            elif answer.get("error") != "authorization_pending":
                break
        raise NotLoggedInError("nobody let this program in; try again, and confirm in the browser")

    def _keep(self, tokens: Mapping[str, Any]) -> None:
        self._kept = {name: str(tokens[name]) for name in ("access_token", "refresh_token") if name in tokens}
        hubs = {url: kept for url, kept in _read(self.path).items() if url != self.url}
        if self._kept:
            hubs[self.url] = self._kept
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "hubs": hubs}, file)
        beside.replace(self.path)

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidInputError(
                f"{self.path} cannot be written ({error.strerror}); set XDG_CONFIG_HOME to a folder of yours, or "
                f"{TOKEN_VARIABLE} to an API token"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> dict[str, dict[str, str]]:
    """Read the file; empty where there is none, or none that can be read: then one logs in anew."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return dict(document["hubs"]) if document["version"] == 1 else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
