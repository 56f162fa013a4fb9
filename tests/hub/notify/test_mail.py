"""Mail through a real SMTP server."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from driftline.clock import parse_iso
from driftline.errors import InvalidInputError
from driftline.hub.notify import mail, picture, ways
from driftline.hub.notify.connection import Network
from driftline.hub.store.assays import Mark
from driftline.hub.tls import certificate
from driftline.wire import api

NOW_NS = parse_iso("2026-01-01T10:00:00+00:00")
MINUTE_NS = 60_000_000_000


def told(**facts: Any) -> api.Notification:
    known = {
        "id": "1a", "kind": "drift", "device": "till-1", "assay_id": "a1", "field": "out.sharpness",
        "opened_ns": NOW_NS, "resolved_ns": None, "text": "out.sharpness has drifted", "devices": ["till-1"],
    }  # fmt: skip
    incident = api.Incident(**(known | facts))
    return api.Notification(
        event_id="e1", change="opened", number=1, at_ns=NOW_NS, actor="hub", note="", incident=incident, assay="shelf"
    )


def drawn(*levels: float | None, promised: bool = False) -> bytes | None:
    marks = [
        Mark(at * MINUTE_NS, (at + 1) * MINUTE_NS, "Alert" if (one or 0) >= 1 else "Ok", one, one)
        for at, one in enumerate(levels)
    ]
    return picture.png("drift on till-1", {"till-1 out.sharpness": marks}, promised=promised)


def settings(**facts: Any) -> api.Email:
    known = {"host": "127.0.0.1", "sender": "hub@example.org", "to": ["ada@example.org"], "security": "none"}
    return api.Email(**(known | facts))


def test_a_mail_has_text_the_same_as_html_and_the_chart_inside(mail_server: Any, network: Network) -> None:
    box = mail_server()
    chart = drawn(0.1, 0.4, 1.7)
    result = ways.send(network, settings(port=box.port), told(), "http://hub", chart, NOW_NS)
    assert (result.outcome, result.text) == ("delivered", "handed over for ada@example.org")
    (got,) = box.mails
    assert got["Subject"] == "[driftline] drift (shelf) on till-1"
    assert got["X-Driftline-Event"] == "e1"
    assert got["Message-ID"] == "<e1@driftline>"
    assert got["Date"] == "Thu, 01 Jan 2026 10:00:00 -0000"
    assert "out.sharpness has drifted" in got.get_body(("plain",)).get_content()
    html = got.get_body(("html",)).get_content()
    assert "cid:chart@driftline" in html
    (image,) = [part for part in got.walk() if part.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<chart@driftline>"
    assert image.get_content_disposition() == "inline"
    assert image.get_content() == chart


def test_the_chart_is_a_picture_that_rises_with_the_score() -> None:
    def highest(data: bytes | None) -> int:
        assert data is not None
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert pixels.shape == (picture.HEIGHT, picture.WIDTH, 3)
        # Blue is the first device's; below its name.
        is_blue = np.abs(pixels.astype(int) - (157, 92, 11)).max(axis=2) < 40
        return int(np.flatnonzero(is_blue[picture.TOP + 8 :].any(axis=1))[0])

    assert highest(drawn(0.1, 0.1)) > highest(drawn(0.1, 0.9)) > highest(drawn(0.1, 2.5))
    assert highest(drawn(1e-4, 1e-3, promised=True)) > highest(drawn(1e-4, 1e-1, promised=True))
    assert drawn(None, None) is None


@pytest.mark.parametrize(
    ("reply", "outcome"), [("451 try again", "failed"), ("554 no such thing", "refused"), ("250 kept", "delivered")]
)
def test_what_the_server_says_is_the_reason(mail_server: Any, network: Network, reply: str, outcome: str) -> None:
    box = mail_server()
    box.replies = [reply]
    result = ways.send(network, settings(port=box.port), told(), "", None, NOW_NS)
    assert result.outcome == outcome
    assert outcome == "delivered" or reply in result.text


def trusting(tmp_path: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    files = certificate(tmp_path, host)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files[0], files[1])
    return server, ssl.create_default_context(cafile=str(files[0]))


def test_starttls_checks_the_name_then_logs_in(mail_server: Callable[..., Any], tmp_path: Path) -> None:
    server, client = trusting(tmp_path, "mail.example")
    box = mail_server(tls_context=server, require_starttls=True, auth_required=True)
    network = Network(private=True, resolve=lambda *_: ["127.0.0.1"], total_s=5, tls=client)

    def sent(**facts: Any) -> ways.Result:
        known = {"host": "mail.example", "port": box.port, "security": "starttls", "user": "ada", "password": "right"}
        return ways.send(network, settings(**(known | facts)), told(), "", None, NOW_NS)

    assert sent().outcome == "delivered"
    assert box.logins == [(b"ada", b"right")]
    wrong = sent(password="wrong")
    assert wrong.outcome == "refused"
    assert "535" in wrong.text
    assert "wrong" not in wrong.text
    assert "not to be trusted" in sent(host="other.example").text
    assert len(box.mails) == 1


def test_implicit_tls(mail_server: Callable[..., Any], tmp_path: Path) -> None:
    server, client = trusting(tmp_path, "mail.example")
    box = mail_server(ssl_context=server)
    network = Network(private=True, resolve=lambda *_: ["127.0.0.1"], total_s=5, tls=client)
    asked = settings(host="mail.example", port=box.port, security="tls")
    assert ways.send(network, asked, told(), "", None, NOW_NS).outcome == "delivered"


def test_without_starttls_on_offer_nothing_is_said(mail_server: Any) -> None:
    box = mail_server()
    network = Network(private=True, total_s=5)
    asked = settings(port=box.port, security="starttls")
    result = ways.send(network, asked, told(), "", None, NOW_NS)
    assert (result.outcome, box.mails) == ("refused", [])
    assert "does not offer" in result.text


def test_without_tls_mail_goes_to_this_machine_only(network: Network) -> None:
    elsewhere = Network(private=True, resolve=lambda *_: ["192.168.1.9"])
    result = ways.send(elsewhere, settings(host="mail.example"), told(), "", None, NOW_NS)
    assert (result.outcome, "starttls or tls only" in result.text) == ("refused", True)
    closed = Network()
    assert "--private-targets" in ways.send(closed, settings(), told(), "", None, NOW_NS).text
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen()
        port = silent.getsockname()[1]
        slow = ways.send(Network(private=True, total_s=0.3), settings(port=port), told(), "", None, NOW_NS)
    assert slow.outcome == "failed"


@pytest.mark.parametrize(
    "facts",
    [
        {"to": []}, {"to": ["ada"]}, {"to": ["ada@example.org\r\nBcc: all@example.org"]}, {"sender": "a b@c d"},
        {"to": ["ada@example.org"] * 51}, {"user": "ada"}, {"host": "0x7f.1"}, {"host": "a b"},
        {"host": ""}, {"port": 0}, {"sender": ""},
        {"user": "ada", "password": "x", "security": "none"},
    ],
)  # fmt: skip
def test_what_no_mail_can_be_sent_with_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        mail.check(settings(**facts))


def test_a_name_with_line_breaks_stays_in_its_header() -> None:
    made = mail.composed(settings(), told(device="a\r\nBcc: all@example.org", devices=[]), "", None, NOW_NS)
    assert made["Bcc"] is None
    assert made["Subject"] == "[driftline] drift (shelf) on a Bcc: all@example.org"
