"""The hub's certificate: one it makes for itself, or one that its owner gives it.

The one it makes is self-signed; devices know it by its fingerprint, which travels in their join tokens. One of an
owner's is known in the same way, or by an authority that the devices' system knows: then it can be renewed.
"""

import datetime as dt
import hashlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from driftline.errors import InvalidInputError, NotAllowedError, PermanentError

# Devices trust the fingerprint and nothing else, so that a renewal would lock them all out.
VALID_DAYS = 365 * 30
# Renewals come every 60 days of 90; who is told two weeks before the end has missed one.
SOON_DAYS = 14


@dataclass(frozen=True)
class Own:
    """A certificate that the owner gave: its files, its SHA-256 (hex), its names, and how long it is valid still."""

    certificate_file: Path
    key_file: Path
    fingerprint: str
    names: tuple[str, ...]
    days_left: float


def own(certificate: str | None, key: str | None, now: dt.datetime | None = None) -> Own:
    """Read a certificate and its key, and see that a server can speak TLS with them.

    The file may hold the whole chain, the hub's own certificate first.

    Raises:
        InvalidInputError: one without the other, no PEM, a key with a password, or two that do not belong together.
        NotAllowedError: a file that this user cannot read.
        PermanentError: it has expired, or is not valid yet.
    """
    if not certificate or not key:
        raise InvalidInputError("a certificate and its key are given together: --certificate FILE --key FILE")
    now = now or dt.datetime.now(dt.UTC)
    certificate_file, key_file = Path(certificate).expanduser(), Path(key).expanduser()
    try:
        shown = x509.load_pem_x509_certificate(_bytes(certificate_file))
    except ValueError as error:
        raise InvalidInputError(f"{certificate_file} holds no certificate in PEM form ({error})") from error
    if _public(_key(key_file).public_key()) != _public(shown.public_key()):
        raise InvalidInputError(
            f"{key_file} is not the key of the certificate in {certificate_file}; where that file holds a chain, the "
            "hub's own certificate comes first"
        )
    begins, ends = shown.not_valid_before_utc, shown.not_valid_after_utc
    if not begins <= now <= ends:
        said = f"expired at {ends.isoformat()}" if now > ends else f"is not valid before {begins.isoformat()}"
        raise PermanentError(f"the certificate in {certificate_file} {said}; renew it, or see this machine's clock")
    fingerprint = hashlib.sha256(shown.public_bytes(serialization.Encoding.DER)).hexdigest()
    return Own(certificate_file, key_file, fingerprint, _names_of(shown), (ends - now) / dt.timedelta(days=1))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotAllowedError(
            f"{path} cannot be read ({error.strerror}); the user who runs the hub needs to read it"
        ) from error


def _key(path: Path) -> Any:
    try:
        return serialization.load_pem_private_key(_bytes(path), password=None)
    except TypeError:
        raise InvalidInputError(
            f"{path} is locked with a password, which no service can type; openssl pkey -in {path} -out FILE unlocks it"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(f"{path} holds no private key in PEM form") from error


def _public(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def certificate(folder: Path, host: str) -> tuple[Path, Path, str]:
    """Return the files of the certificate and its key, made where they are not there yet, and its SHA-256 (hex)."""
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    if not certificate_file.exists() or not key_file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(certificate_file, key_file, host)
    made = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    return certificate_file, key_file, hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


def _make(certificate_file: Path, key_file: Path, host: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "driftline hub")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A device's clock may be behind.
        .not_valid_before(now - dt.timedelta(days=365))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The certificate last: where it is there, its key is.
    _write(key_file, secret)
    _write(certificate_file, made.public_bytes(serialization.Encoding.PEM))


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    try:
        return [*names, x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        return [*names, x509.DNSName(host)] if host.isascii() else [*names, x509.DNSName(socket.gethostname())]


def _write(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
