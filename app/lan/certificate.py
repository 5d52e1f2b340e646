"""The certificates of the TLS door, made on this computer and known to nobody else.

An authority of the clinic's own signs a certificate for the addresses this computer has. A phone
that has installed the authority once trusts the certificates that follow, whatever the addresses.
The authority can vouch for addresses of local networks and for this computer's name only (RFC 5280,
4.2.1.10): whoever steals its key cannot pass for a bank.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.cxr.durable import write_durably
from app.lan.addresses import LOCAL_NETWORKS

FOLDER = "lan"
AUTHORITY, DOOR = "authority.pem", "door.pem"
#: A clock that shows an earlier day than this was written on is wrong: batteries of old laptops.
WRITTEN = datetime(2026, 11, 1, tzinfo=UTC)
#: A phone whose clock is a few weeks behind accepts a certificate that was made today.
CLOCKS_APART = timedelta(days=30)
AUTHORITY_LIFE = timedelta(days=3650)
#: With the days before it less than 825, the most that iPhones accept (support.apple.com/103769).
DOOR_LIFE = timedelta(days=760)
#: So long before its end a certificate is made anew.
RENEW_BEFORE = timedelta(days=60)
#: A laptop that goes to and fro between networks keeps one certificate for all of them.
MOST_ADDRESSES = 12


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key. ``names``: host names and addresses that it holds for."""

    parsed: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> list[str]:
        """SHA-256 as browsers show it, in eight groups that can be compared one by one."""
        digest = hashlib.sha256(self.der).digest()
        return [digest[at : at + 4].hex(" ").upper() for at in range(0, len(digest), 4)]

    @property
    def der(self) -> bytes:
        """The certificate, without its key."""
        return self.parsed.public_bytes(serialization.Encoding.DER)

    @property
    def names(self) -> list[str]:
        """Host names and addresses that it holds for."""
        found = self.parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [
            *found.get_values_for_type(x509.DNSName),
            *map(str, found.get_values_for_type(x509.IPAddress)),
        ]

    def is_fresh(self, today: datetime) -> bool:
        """Whether it holds today, and for a while yet."""
        begun = self.parsed.not_valid_before_utc <= today
        return begun and today < self.parsed.not_valid_after_utc - RENEW_BEFORE


def authority(folder: Path, host: str) -> Certificate:
    """The authority kept in ``folder``, made anew where there is none, it ends, or the computer
    has another name.
    """
    known = _read(folder / AUTHORITY)
    if known and known.is_fresh(_today() + DOOR_LIFE) and _covers(known, host):
        return known
    made = _make_authority(host)
    _write(folder / AUTHORITY, made)
    return made


def for_names(
    folder: Path, signer: Certificate, hosts: Sequence[str], addresses: Sequence[str]
) -> Certificate:
    """A certificate for ``hosts`` and ``addresses``: the one kept in ``folder`` while it serves.

    Addresses that it was made for before are kept, the newest first.
    """
    known = _read(folder / DOOR)
    if known and not _is_signed_by(known, signer):
        known = None
    if known and known.is_fresh(_today()) and {*hosts, *addresses} <= {*known.names}:
        return known
    earlier = [name for name in (known.names if known else []) if _is_address(name)]
    every = list(dict.fromkeys([*addresses, *earlier]))[:MOST_ADDRESSES]
    made = _make_door(signer, hosts, every)
    _write(folder / DOOR, made)
    return made


def _today() -> datetime:
    return max(datetime.now(UTC), WRITTEN)


def _make_authority(host: str) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Clinic chest films ({host})")
    permitted: list[x509.GeneralName] = [x509.IPAddress(network) for network in LOCAL_NETWORKS]
    permitted += [x509.DNSName(one) for one in dict.fromkeys((host, "local", "localhost"))]
    usage = x509.KeyUsage(**_usages(key_cert_sign=True, crl_sign=True))
    built = (
        _begin(name, name, key, WRITTEN, _today() + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(built, key)


def _make_door(signer: Certificate, hosts: Sequence[str], addresses: Sequence[str]) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    subject = _name(hosts[0])
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    serves = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    built = (
        _begin(subject, signer.parsed.subject, key, _today(), _today() + DOOR_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**_usages(digital_signature=True)), critical=True)
        .add_extension(serves, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(signed_by, critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    return Certificate(built, key)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCKS_APART)
        .not_valid_after(end)
        .add_extension(own, critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _usages(**given: bool) -> dict[str, bool]:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return {name: given.get(name, False) for name in every.split()}


def _covers(known: Certificate, host: str) -> bool:
    limits = known.parsed.extensions.get_extension_for_class(x509.NameConstraints).value
    return x509.DNSName(host) in (limits.permitted_subtrees or [])


def _is_signed_by(known: Certificate, signer: Certificate) -> bool:
    try:
        known.parsed.verify_directly_issued_by(signer.parsed)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(path: Path) -> Certificate | None:
    """A certificate and its key; None where there is none, or none that can be used."""
    try:
        content = path.read_bytes()
        parsed = x509.load_pem_x509_certificate(content)
        key = serialization.load_pem_private_key(content, None)
    except (OSError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != parsed.public_key():
        return None
    return Certificate(parsed, key)


def _write(path: Path, made: Certificate) -> None:
    """Key and certificate in one file that nobody else can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    key = made.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = made.parsed.public_bytes(serialization.Encoding.PEM)
    write_durably(path, key + certificate, private=True)
