"""Tries the way to the hub step by step: name, connection, TLS, certificate, answer, and whether it knows this device.

It asks with request number 0, which no hub ever takes: a device that is known is told so, and nothing has changed.
"""

import hashlib
import json
import os
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from driftline.edge.findings import Probe
from driftline.edge.home import Identity
from driftline.edge.http import Response
from driftline.edge.transport import Address, Connection
from driftline.errors import DriftlineError
from driftline.wire.device import BUNDLE_PATH, signed_headers

TIMEOUT_S = 5.0
# The SHA-256 of no file.
_NOTHING = BUNDLE_PATH + "0" * 64


def probe(identity: Identity) -> Probe:
    """Go as far as it goes; takes at most some `TIMEOUT_S` a step."""
    try:
        address = Address.parse(identity.url)
    except DriftlineError as error:
        return Probe("name", str(error))
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Probe("name", error.strerror or str(error))
    try:
        connection = socket.create_connection((address.host, address.port), TIMEOUT_S)
    except OSError as error:
        return Probe("connection", _reason(error))
    with connection:
        failed = _handshake(connection, identity) if address.secure else None
    return failed or _asked(identity)


def _handshake(connection: socket.socket, identity: Identity) -> Probe | None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with context.wrap_socket(connection) as secure:
            certificate = secure.getpeercert(binary_form=True) or b""
    except OSError as error:
        return Probe("tls", _reason(error))
    expected = (identity.fingerprint or "").lower().replace(":", "")
    return Probe("certificate") if expected and hashlib.sha256(certificate).hexdigest() != expected else None


def _asked(identity: Identity) -> Probe:
    connection = Connection(identity.url, identity.fingerprint, TIMEOUT_S)
    try:
        before_s = time.time()
        response = connection.ask("GET", _NOTHING, None, lambda: _headers(identity))
        body = connection.read(response)
        return _understood(response, body, (before_s + time.time()) / 2)
    except DriftlineError as error:
        return Probe("http", str(error))
    finally:
        connection.close()


def _headers(identity: Identity) -> dict[str, str]:
    return signed_headers(identity.name, identity.key, "GET", _NOTHING, 0, b"")


def _understood(response: Response, body: bytes, now_s: float) -> Probe:
    ahead_s = _ahead_s(response.header("Date"), now_s)
    code, text = _error(body)
    if response.status == HTTPStatus.NOT_FOUND or code == "stale_request" or "came before" in text:
        return Probe("answered", status=response.status, ahead_s=ahead_s)
    if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} and code:
        return Probe("answered", status=response.status, ahead_s=ahead_s, refusal=text)
    return Probe("http", text, response.status, ahead_s)


def _error(body: bytes) -> tuple[str, str]:
    """Return code and text of a hub's error; empty where it is none."""
    try:
        document: Any = json.loads(body)["error"]
        return str(document["code"]), str(document["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _ahead_s(date: str | None, now_s: float) -> float | None:
    """Return how far the hub's clock is ahead; its header has whole seconds, half of one is the best guess."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() + 0.5 - now_s
    except ValueError:
        return None


def _reason(error: OSError) -> str:
    # An SSLError's number is OpenSSL's own.
    named = isinstance(error.errno, int) and not isinstance(error, ssl.SSLError)
    return os.strerror(error.errno) if named and error.errno else str(error)
