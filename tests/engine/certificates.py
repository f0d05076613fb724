"""A private authority and certificates of its own making, as `cluster/README.md` tells people to make them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates into a folder; ``ca`` is its own.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key, self.ca = folder, ec.generate_private_key(ec.SECP256R1()), folder / "ca.pem"
        basics = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._builder("authority", self._key).add_extension(basics, critical=True)
        self.ca.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _builder(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            _name("authority"), _name(name), key.public_key(), x509.random_serial_number(),
            now - timedelta(hours=1), now + timedelta(days=1),
        )  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """Make a certificate and its key; return their files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = self._builder(name, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        paths = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return paths
