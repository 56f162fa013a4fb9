"""The hub's certificate: its own one and one of its owner's, and how devices know it."""

import datetime as dt
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from driftline.errors import DriftlineError
from driftline.hub.command import Address, listen
from driftline.hub.config import Config
from driftline.hub.tls import own
from driftline.sdk.http import pinned

EVERYWHERE = "0.0.0.0"  # noqa: S104  nobody else is asked
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def made(
    folder: Path,
    name: str = "hub",
    *,
    names: tuple[str, ...] = ("hub.example",),
    days: int = 90,
    since: dt.datetime = NOW,
) -> tuple[str, str]:
    """Make a certificate and its key; return their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - dt.timedelta(days=1))
        .not_valid_after(since + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return str(files[0]), str(files[1])


def test_a_pair_that_fits_is_taken_with_its_names(tmp_path: Path) -> None:
    found = own(*made(tmp_path, names=("hub.example", "*.shop.example")), NOW)
    assert found.names == ("hub.example", "*.shop.example")
    assert found.days_left == 90


def test_one_without_the_other_is_refused(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    for pair in ((certificate, None), (None, key)):
        with pytest.raises(DriftlineError, match="given together"):
            own(*pair, NOW)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DriftlineError, match="is not the key of the certificate"):
        own(made(tmp_path)[0], made(tmp_path, "other")[1], NOW)


@pytest.mark.parametrize(("when", "said"), [(91, "expired at 2026-08-30"), (-2, "is not valid before 2026-05-31")])
def test_one_that_is_not_valid_now_is_refused(tmp_path: Path, when: int, said: str) -> None:
    with pytest.raises(DriftlineError, match=said):
        own(*made(tmp_path), NOW + dt.timedelta(days=when))


def test_what_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    certificate, key = made(tmp_path)
    (tmp_path / "text").write_text("no PEM")
    locked = tmp_path / "locked"
    loaded: Any = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"word")
    locked.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password))
    for pair, said in (
        ((certificate, str(tmp_path / "none")), "none cannot be read .*the user who runs the hub"),
        ((certificate, str(tmp_path)), "cannot be read"),
        ((str(tmp_path / "text"), key), "holds no certificate in PEM form"),
        ((certificate, str(tmp_path / "text")), "holds no private key in PEM form"),
        ((certificate, str(locked)), "openssl pkey -in"),
    ):
        with pytest.raises(DriftlineError, match=said):
            own(*pair, NOW)


def test_devices_know_it_by_its_fingerprint_or_by_an_authority(tmp_path: Path) -> None:
    certificate, key = made(tmp_path, names=("*.example", "hub.example"), since=dt.datetime.now(dt.UTC))
    config = Config(host=EVERYWHERE, certificate=certificate, key=key)
    with listen(EVERYWHERE, 0) as bound:
        port = bound.getsockname()[1]
        pinning = Address.of(bound, tmp_path, config)
        trusted = msgspec.structs.replace(config, trust="authority", name="me.example")
        trusting = Address.of(bound, tmp_path, trusted)
    assert pinning.url == f"https://hub.example:{port}"
    assert pinning.pinned == pinning.fingerprint == own(certificate, key).fingerprint
    assert (trusting.url, trusting.pinned) == (f"https://me.example:{port}", None)
    assert trusting.fingerprint == pinning.fingerprint
    assert trusting.local_url == f"https://127.0.0.1:{port}"


def test_on_loopback_a_certificate_is_refused_with_the_way_out(tmp_path: Path) -> None:
    certificate, key = made(tmp_path, since=dt.datetime.now(dt.UTC))
    with listen("127.0.0.1", 0) as bound, pytest.raises(DriftlineError, match=r"--host 0\.0\.0\.0"):
        Address.of(bound, tmp_path, Config(certificate=certificate, key=key))


def test_one_that_ends_soon_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, key = made(tmp_path, days=5, since=dt.datetime.now(dt.UTC))
    with listen(EVERYWHERE, 0) as bound:
        Address.of(bound, tmp_path, Config(host=EVERYWHERE, certificate=certificate, key=key))
    assert "expires in 5 days; renew it" in capsys.readouterr().err


def test_a_hub_with_a_certificate_of_its_owner_answers_with_it_and_its_own_device_finds_it(
    driftline_up: Any, tmp_path: Path
) -> None:
    certificate, key = made(tmp_path, since=dt.datetime.now(dt.UTC))
    settings = tmp_path / "hub.toml"
    settings.write_text(f"host = '0.0.0.0'\ncertificate = '{certificate}'\nkey = '{key}'\ntrust = 'authority'\n")
    up = driftline_up("--config", str(settings))
    assert "devices reach it at https://hub.example:" in up.text
    with httpx2.Client(verify=pinned(own(certificate, key).fingerprint), trust_env=False) as client:
        deadline = dt.datetime.now() + dt.timedelta(seconds=60)  # noqa: DTZ005  how long this test waits
        while not client.get(f"{up.url}/api/v1/devices").json()["items"][0]["heard_ns"]:
            assert dt.datetime.now() < deadline, up.text  # noqa: DTZ005
    assert up.stop() == 0
