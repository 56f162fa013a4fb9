"""The hub's own certificate: self-signed, known to devices by its fingerprint, which travels in their join tokens."""

import datetime as dt
import hashlib
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Devices trust the fingerprint and nothing else, so that a renewal would lock them all out.
VALID_DAYS = 365 * 30


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
