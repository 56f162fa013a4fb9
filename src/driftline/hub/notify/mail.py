"""Mail over SMTP, with the chart inside it: as a PNG, since mail programs do not show SVG."""

import smtplib
import socket
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate

from driftline.clock import NS_PER_S
from driftline.errors import InvalidInputError, PermanentError, TemporaryError
from driftline.hub.notify import message
from driftline.hub.notify.address import Endpoint, check_name
from driftline.hub.notify.connection import Network, connected
from driftline.wire import api

PORTS: dict[api.SmtpSecurity, int] = {"starttls": 587, "tls": 465, "none": 25}
RECIPIENTS_MAX = 50
PICTURE_ID = "chart@driftline"


def check(settings: api.Email) -> None:
    """Refuse settings that no mail can be sent with.

    Raises:
        InvalidInputError: addresses that are none, a password without protection.
    """
    if not 1 <= len(settings.to) <= RECIPIENTS_MAX:
        raise InvalidInputError(f"a mail goes to 1 to {RECIPIENTS_MAX} addresses; make a list in your mail system")
    check_name(settings.host)
    for one in (settings.sender, *settings.to):
        _address(one)
    if settings.port is not None and not 0 < settings.port < 65_536:
        raise InvalidInputError(f"port {settings.port}: ports are 1 to 65535; leave it out for the usual one")
    if (settings.user is None) != (settings.password is None):
        raise InvalidInputError("give the mail server's user and password together, or neither")
    if settings.security == "none" and settings.user is not None:
        raise InvalidInputError("without TLS a password would be read on the way; use security starttls or tls")


def _address(text: str) -> Address:
    try:
        made = Address(addr_spec=text)
    except (ValueError, IndexError) as error:
        raise InvalidInputError(f"{text!r:.100} is not a mail address such as ada@example.org") from error
    if not made.username or not made.domain or not text.isascii() or not text.isprintable():
        raise InvalidInputError(f"{text!r:.100} is not a mail address such as ada@example.org")
    return made


def composed(settings: api.Email, told: api.Notification, url: str, picture: bytes | None, now_ns: int) -> EmailMessage:
    """Return the mail of a change: text, the same as HTML, and the chart inside that."""
    mail = EmailMessage()
    # A name of a device or assay may hold anything; a header is one line.
    mail["Subject"] = " ".join(f"[driftline] {message.subject(told)}".split())
    mail["From"] = _address(settings.sender)
    mail["To"] = [_address(one) for one in settings.to]
    mail["Date"] = formatdate(now_ns / NS_PER_S)
    # The same for the same event: mail systems drop a second copy, and answers of one incident stand together.
    mail["Message-ID"] = f"<{told.event_id}@driftline>"
    mail["References"] = f"<{told.incident.id}@driftline>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Driftline-Event"] = told.event_id
    mail.set_content(message.text(told, url))
    mail.add_alternative(message.html(told, url, None if picture is None else PICTURE_ID), subtype="html")
    if picture is not None:
        (_, html) = mail.iter_parts()
        assert isinstance(html, EmailMessage)  # noqa: S101  what add_alternative makes
        html.add_related(picture, "image", "png", cid=f"<{PICTURE_ID}>", filename="chart.png", disposition="inline")
    return mail


def send(network: Network, settings: api.Email, mail: EmailMessage) -> str:
    """Hand a mail to the server; return what it said.

    Raises:
        PermanentError: the server will not take it, or the connection is not as it has to be.
        TemporaryError: it cannot be reached, or does not take it now.
    """
    port = settings.port or PORTS[settings.security]
    endpoint = network.endpoint(settings.host, port)
    if settings.security == "none" and not all(_is_here(one) for one in endpoint.addresses):
        raise PermanentError(f"{settings.host} is another machine: mail goes there with security starttls or tls only")
    try:
        return _handed_over(network, settings, endpoint, mail)
    except ssl.SSLCertVerificationError as error:
        raise TemporaryError(
            f"{settings.host} shows a certificate that is not to be trusted ({error.verify_message})"
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentError(
            f"{settings.host} does not offer what was asked for ({error}); add the channel again with another "
            "--security (starttls, tls, or none for a server here), or without --user where it wants no login"
        ) from error
    except smtplib.SMTPResponseException as error:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        kind = PermanentError if 500 <= error.smtp_code < 600 else TemporaryError
        raise kind(f"{settings.host} said {error.smtp_code} {said:.200}") from error
    except smtplib.SMTPRecipientsRefused as error:
        words = "; ".join(f"{who}: {code} {_text(said)}" for who, (code, said) in error.recipients.items())
        codes = [code for code, _ in error.recipients.values()]
        kind = PermanentError if all(500 <= code < 600 for code in codes) else TemporaryError
        raise kind(f"{settings.host} takes no mail for {words:.300}") from error
    except (OSError, smtplib.SMTPException) as error:
        raise TemporaryError(f"{settings.host} broke off ({error or type(error).__name__})") from error


def _handed_over(network: Network, settings: api.Email, endpoint: Endpoint, mail: EmailMessage) -> str:
    with connected(endpoint, network.total_s) as raw:
        sock: socket.socket = raw
        if settings.security == "tls":
            sock = network.tls.wrap_socket(raw, server_hostname=settings.host)
        with _Ready(settings, endpoint.port, sock, network.total_s) as server:
            if settings.security == "starttls":
                server.starttls(context=network.tls)
            if settings.user is not None and settings.password is not None:
                server.login(settings.user, settings.password)
            refused = server.send_message(mail)
    if refused:
        # Some have it, and have it once; the others are not worth a second copy for these.
        return f"handed over, but not for {', '.join(refused)}"
    return f"handed over for {', '.join(settings.to)}"


class _Ready(smtplib.SMTP):
    """SMTP over a socket that is there already; `_host` is whose certificate STARTTLS is to show."""

    def __init__(self, settings: api.Email, port: int, ready: socket.socket, timeout_s: float) -> None:
        self._ready = ready
        # Servers look at the name they are greeted with; this machine's own may mean nothing out there.
        name = settings.sender.rpartition("@")[2]
        super().__init__(settings.host, port, local_hostname=name, timeout=timeout_s)

    def _get_socket(self, *_: object) -> socket.socket:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._ready


def _is_here(address: str) -> bool:
    return address == "::1" or address.startswith(("127.", "::ffff:127."))


def _text(said: "bytes | str") -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
