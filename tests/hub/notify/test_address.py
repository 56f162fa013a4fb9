import ipaddress
import threading

import pytest

from driftline.errors import InvalidInputError, NotAllowedError, TemporaryError
from driftline.hub.notify.address import parsed, refusal, resolved


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://hooks.example/_x", "ftp://hooks.example/", "javascript:alert(1)",
        "hooks.example",
        "//hooks.example/", "https://", "https:///path", "https://ada:secret@hooks.example/", "https://ada@hooks.example/",
        "https://hooks.example@10.0.0.1/", "https://hooks.example\\@10.0.0.1/", "https://hooks.example/a b",
        "https://hooks.example/\r\nX-Evil: 1", "https://hooks.example:0/", "https://hooks.example:99999/",
        "https://hooks.example:port/", "https://[::1", "https://exämple.org/", "https://127。0。0。1/",
        "https://hooks.example/" + "a" * 3000,
        # Spellings of 127.0.0.1 and 169.254.169.254 that only some programs read as such.
        "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://0x7f.1/", "http://127.1/",
        "http://0177.0.0.1/", "http://127.0.1/", "http://2852039166/latest/meta-data/", "http://0/", "http://127.0.0.1./",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(InvalidInputError):
        parsed(url)


def test_a_refusal_does_not_repeat_a_password() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parsed("https://ada:s3cret@hooks.example/")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "::1", "fc00::1", "fd12:3456::1", "2001:db8::1",
        # IPv4 inside IPv6: mapped, compatible, NAT64, 6to4.
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:a00:1::",
    ],
)  # fmt: skip
def test_private_addresses_need_the_owners_leave(address: str) -> None:
    assert "--private-targets" in str(refusal(ipaddress.ip_address(address), private=False))
    assert refusal(ipaddress.ip_address(address), private=True) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "169.254.1.1", "fe80::1", "0.1.2.3", "::", "224.0.0.1",
        "0.0.0.0",  # noqa: S104  to be refused
        "239.255.255.250", "ff02::1", "255.255.255.255", "240.0.0.1", "fec0::1", "64:ff9b:1::10.0.0.1",
        "::ffff:0.0.0.0",
    ],
)  # fmt: skip
def test_what_gives_credentials_away_or_is_nobodys_is_refused_always(address: str) -> None:
    assert "never allowed" in str(refusal(ipaddress.ip_address(address), private=True))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_internet_is_open(address: str) -> None:
    assert refusal(ipaddress.ip_address(address), private=False) is None


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(NotAllowedError, match=r"hooks.example leads to 10\.0\.0\.7"):
        resolved("hooks.example", 443, lambda *_: ["8.8.8.8", "10.0.0.7"], private=False, timeout_s=1)


def test_a_name_is_looked_up_once_and_what_it_says_later_is_not_heard() -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    found = resolved("rebind.example", 443, lambda *_: answers.pop(0), private=False, timeout_s=1)
    assert found.addresses == ("8.8.8.8",)
    assert answers == [["127.0.0.1"]]


def test_a_name_nobody_knows_and_a_resolver_that_does_not_answer_are_for_later() -> None:
    def unknown(*_: object) -> list[str]:
        raise OSError("Name or service not known")

    for resolve, says in ((unknown, "is not known"), (lambda *_: [], "has no address")):
        with pytest.raises(TemporaryError, match=says):
            resolved("none.example", 443, resolve, private=False, timeout_s=1)
    never = threading.Event()
    with pytest.raises(TemporaryError, match="nobody said within"):
        resolved("slow.example", 443, lambda *_: ["8.8.8.8"] if never.wait(5) else [], private=False, timeout_s=0.01)
    never.set()
