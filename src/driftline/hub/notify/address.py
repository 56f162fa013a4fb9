"""Where notifications may go: an address that people give must not let the hub talk to what only the hub can reach.

A name is looked up once, every address it has is judged, and the connection goes to one of these: a name server that
answers differently the second time is not asked a second time. Addresses of private networks and of this machine are
refused unless the hub's owner allowed them (`driftline up --private-targets`); those of cloud metadata, multicast, and
what no receiver can have are refused always.
"""

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from driftline.errors import InvalidInputError, NotAllowedError, TemporaryError

IPAddress = IPv4Address | IPv6Address
# (name, port) → addresses as text; raises OSError where there are none.
Resolver = Callable[[str, int], Sequence[str]]

URL_LENGTH_MAX = 2048
PORTS = {"http": 80, "https": 443}
# Clouds answer these with the machine's own credentials; some lie in no range that would be refused anyway.
METADATA = frozenset(
    ipaddress.ip_address(one)
    for one in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
# IPv6 that carries IPv4 inside: NAT64 by RFC 6052 (its local-use range is anybody's), and 6to4.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.ip_network("::/96")
# Numbers that only some programs read as addresses: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
_PLAIN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Endpoint:
    """Where to connect: `addresses` were judged, `host` is who answers there by name."""

    host: str
    port: int
    addresses: tuple[str, ...]


def parsed(url: str) -> SplitResult:
    """Return the parts of an address that a notification may be sent to, as far as its text tells.

    >>> parsed("https://hooks.example/drift").hostname
    'hooks.example'

    Raises:
        InvalidInputError: it is no plain http or https address; the message says what is wrong with it.
    """
    what = "the address of a receiver"
    if len(url) > URL_LENGTH_MAX or not _PLAIN.fullmatch(url) or "\\" in url:
        raise InvalidInputError(
            f"{what} has at most {URL_LENGTH_MAX} plain characters without spaces and backslashes, such as "
            "https://hooks.example/drift"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(f"{what} cannot be read ({error}); write it as https://HOST/PATH") from error
    if parts.scheme not in PORTS:
        raise InvalidInputError(f"{what} begins with https:// or http://, not with {parts.scheme[:20]!r}")
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(f"{what} has no name or password before its host; they would be shown and logged")
    if not parts.hostname or port == 0:
        raise InvalidInputError(f"{what} has no host and port; write it as https://HOST/PATH")
    check_name(parts.hostname)
    return parts


def check_name(host: str) -> None:
    """Refuse what is no host's name, and addresses in spellings that programs read differently.

    Raises:
        InvalidInputError: it is one of these.
    """
    if len(host) > 253 or not _PLAIN.fullmatch(host):
        raise InvalidInputError(f"{host!r:.100} is no host's name; write it as mail.example.org, or as 192.0.2.1")
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if _NUMERIC.fullmatch(host):
            raise InvalidInputError(
                f"{host} is an address in a spelling that programs read differently; write it as 192.0.2.1"
            ) from None


def resolved(host: str, port: int, resolve: Resolver, *, private: bool, timeout_s: float) -> Endpoint:
    """Look a name up, once, and judge what it says.

    Raises:
        TemporaryError: nobody knows the name now.
        NotAllowedError: it leads where notifications may not go.
    """
    check_name(host)
    found = _within(timeout_s, lambda: resolve(host, port), host)
    if not found:
        raise TemporaryError(f"{host} has no address; see whether it is spelled right, and whether DNS works here")
    for one in found:
        reason = refusal(ipaddress.ip_address(one.partition("%")[0]), private=private)
        if reason is not None:
            raise NotAllowedError(f"{host} leads to {one}, {reason}")
    return Endpoint(host, port, tuple(found))


def refusal(address: IPAddress, *, private: bool) -> str | None:
    """Say why notifications may not go to an address; None where they may.

    >>> refusal(ipaddress.ip_address("8.8.8.8"), private=False) is None
    True
    >>> refusal(ipaddress.ip_address("::ffff:10.0.0.1"), private=False)
    'an address of a private network or of this machine; the owner of the hub allows these with: driftline up \
--private-targets'
    >>> refusal(ipaddress.ip_address("169.254.169.254"), private=True)
    'where clouds keep credentials: that is never allowed'
    """
    inner = _inside(address)
    if inner is not None:
        return refusal(inner, private=private)
    if address in METADATA:
        return "where clouds keep credentials: that is never allowed"
    if address.is_multicast or address.is_unspecified or address.is_link_local or _is_nobody(address):
        return "which is no receiver's address: that is never allowed"
    if address.is_global or private:
        return None
    return (
        "an address of a private network or of this machine; the owner of the hub allows these with: "
        "driftline up --private-targets"
    )


def _inside(address: IPAddress) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    embeds = address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)
    return IPv4Address(int(address) & 0xFFFF_FFFF) if embeds else None


def _is_nobody(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_reserved or int(address) >> 24 == 0
    # is_reserved holds for whole ranges of IPv6 that are merely not given out, and for loopback.
    return address.is_site_local or address in _NAT64_LOCAL


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the machine's own resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _within(timeout_s: float, ask: Callable[[], Sequence[str]], host: str) -> Sequence[str]:
    # The machine's resolver takes no limit of time; what it answers too late is thrown away.
    answers: list[Sequence[str]] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except (OSError, UnicodeError) as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="resolve", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise TemporaryError(f"{host} is not known ({errors[0]}); see whether it is spelled right") from errors[0]
    if not answers:
        raise TemporaryError(f"nobody said within {timeout_s:.0f} s where {host} is; see whether DNS works here")
    return answers[0]
